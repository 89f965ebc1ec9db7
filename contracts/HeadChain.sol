// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IAggregationLedger} from "./IAggregationLedger.sol";

/// @title The hash chain over a federation's records.
/// @notice `head' = keccak256(abi.encode(HEAD_TAG, head, sequence, kind, record))`, from `head = 0` and
/// `sequence = 0` at the genesis record. `record` is `keccak256(abi.encode(...))` of the fields that each
/// function documents; all of them stand in events, so whoever has the events recomputes the head, and
/// two parties who hold the same head have seen the same history.
abstract contract HeadChain is IAggregationLedger {
    bytes32 internal constant HEAD_TAG = keccak256("thoracle/head/v1");

    /// @dev One slot: opening a round rewrites the sequence here anyway, so the time comes free.
    struct Clerk {
        address coordinator;
        uint48 sequence; // of the latest record
        uint40 openedAt; // of the live (or last) round, Unix seconds
        uint8 seatCount;
    }

    Clerk internal _clerk;
    bytes32 private _head;

    /// @inheritdoc IAggregationLedger
    function head() public view returns (bytes32) {
        return _head;
    }

    /// @inheritdoc IAggregationLedger
    function sequence() external view returns (uint64) {
        return _clerk.sequence;
    }

    /// @inheritdoc IAggregationLedger
    function coordinator() external view returns (address) {
        return _clerk.coordinator;
    }

    /// @dev Writes the first record of the chain; the sequence stays 0.
    function _begin(bytes32 record) internal {
        _chain(bytes32(0), 0, Kind.Deployed, record);
    }

    /// @dev Appends one record. Emits {HeadAdvanced}; the record's own event follows it.
    function _advance(Kind kind, bytes32 record) internal returns (bytes32) {
        return _chain(_head, ++_clerk.sequence, kind, record);
    }

    function _chain(bytes32 parent, uint64 number, Kind kind, bytes32 record) private returns (bytes32 next) {
        next = keccak256(abi.encode(HEAD_TAG, parent, number, kind, record));
        _head = next;
        emit HeadAdvanced(number, kind, record, next);
    }
}
