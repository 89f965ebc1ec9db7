// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Sets of seats as 64-bit maps (bit i is seat i).
library Bitmap {
    /// @dev Number of seats in a set: the carry-save count of Warren, Hacker's Delight, section 5-1.
    function count(uint64 set) internal pure returns (uint256) {
        // No overflow: every field holds at most 64.
        unchecked {
            uint256 x = set;
            x -= (x >> 1) & 0x5555555555555555;
            x = (x & 0x3333333333333333) + ((x >> 2) & 0x3333333333333333);
            x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
            return ((x * 0x0101010101010101) >> 56) & 0xff;
        }
    }

    /// @dev Whether a seat is in a set.
    function has(uint64 set, uint256 seat) internal pure returns (bool) {
        return (set >> seat) & 1 == 1;
    }

    /// @dev The set of one seat.
    function only(uint256 seat) internal pure returns (uint64) {
        return uint64(1) << uint8(seat);
    }
}
