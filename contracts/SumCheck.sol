// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAggregationLedger} from "./IAggregationLedger.sol";

/// @title What the contract computes of a proposed sum.
/// @notice A hospital's K = 16 probes are t_ij = sum_c r_j[c] q_i[c] over the integers, r_j drawn from a
/// beacon that fixes the sum and every update. The contract totals T_j = sum_i w_i t_ij with its own
/// weights; each hospital compares T_j with <r_j, S>. Since E[t^2] = |q|^2 (2^32 - 1) / 12 for uniform
/// 16-bit r, the same probes bound the L2 norm of what each hospital contributed.
library SumCheck {
    bytes32 internal constant BEACON_TAG = keccak256("thoracle/beacon/v1");
    uint256 internal constant PROBE_BYTES = 128; // 16 big-endian int64 a hospital

    /// @dev A proposal's hospitals by ascending seat; the digests hash their 32-byte commit hashes, joined.
    struct Count {
        uint256 acceptedWeight;
        uint256 committedWeight;
        bytes32 acceptedDigest;
        bytes32 committedDigest;
        uint256[] seats;
        uint256[] weights;
    }

    /// @dev The Fiat-Shamir beacon: the sum, the model and (through its opening digest) every accepted
    /// update are fixed inside it, so there is no nonce to withhold and no block hash to steer.
    function beaconOf(
        bytes32 federationId,
        uint32 round,
        bytes32 sumDigest,
        bytes32 modelDigest,
        uint64 accepted,
        bytes32 acceptedDigest
    ) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(BEACON_TAG, federationId, round, sumDigest, modelDigest, accepted, acceptedDigest)
        );
    }

    /// @dev Totals the probes: 16 big-endian int128.
    ///
    /// Requirements:
    ///
    /// - `probes` holds exactly 16 int64 a hospital.
    /// - 12 sum_j t_ij^2 <= 59 B^2 (2^32 - 1) for every hospital: an honest update within the norm bound B
    ///   fails in about 1 of 10^6 (chi-square, 16 degrees), one of twenty times the norm never passes.
    function totals(bytes calldata probes, Count memory count, uint256 normBound)
        internal
        pure
        returns (bytes memory)
    {
        if (probes.length != count.seats.length * PROBE_BYTES) revert IAggregationLedger.InvalidArgument("probes");
        uint256 cap = 59 * normBound * normBound * type(uint32).max;
        int256[16] memory sums;
        uint256 offset = 0;
        // No overflow: t^2 <= 2^126, sixteen of them times 12 < 2^134, and |T| < 64 * 2^24 * 2^63 = 2^93.
        unchecked {
            for (uint256 i = 0; i < count.seats.length; ++i) {
                int256 weight = int256(count.weights[i]);
                uint256 squares = 0;
                for (uint256 j = 0; j < 16; j += 4) {
                    int256 four = int256(uint256(bytes32(probes[offset:offset + 32])));
                    offset += 32;
                    int256 t = four >> 192;
                    squares += uint256(t * t);
                    sums[j] += weight * t;
                    t = (four << 64) >> 192;
                    squares += uint256(t * t);
                    sums[j + 1] += weight * t;
                    t = (four << 128) >> 192;
                    squares += uint256(t * t);
                    sums[j + 2] += weight * t;
                    t = (four << 192) >> 192;
                    squares += uint256(t * t);
                    sums[j + 3] += weight * t;
                }
                if (12 * squares > cap) {
                    revert IAggregationLedger.NormCapExceeded(uint8(count.seats[i]), 12 * squares, cap);
                }
            }
        }
        return _pack(sums);
    }

    /// @dev Joins sixteen integers below 2^127 as big-endian int128.
    function _pack(int256[16] memory sums) private pure returns (bytes memory) {
        uint256[8] memory words;
        for (uint256 j = 0; j < 8; ++j) {
            words[j] = (uint256(sums[2 * j]) << 128) | uint128(uint256(sums[2 * j + 1]));
        }
        return abi.encodePacked(words);
    }
}
