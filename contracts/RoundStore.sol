// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Bitmap} from "./Bitmap.sol";
import {IAggregationLedger} from "./IAggregationLedger.sol";
import {Membership} from "./Membership.sol";
import {SumCheck} from "./SumCheck.sol";

/// @title The one live round: its slots, and what is read from them.
abstract contract RoundStore is Membership {
    using Bitmap for uint64;
    using SafeCast for uint256;

    /// @dev One slot. It is never cleared, so that no later round pays for a zero slot again.
    struct Core {
        uint32 number;
        Phase phase;
        uint40 commitDeadline;
        uint40 attestDeadline; // while committing: the length of the attest window
        uint8 rosterCount;
        uint32 rosterWeight;
        uint32 acceptedWeight;
        uint64 committed;
    }

    /// @dev One slot, beside the committed bitmap so that an attestation rewrites only this one.
    struct Tally {
        uint24 weightCap;
        uint40 normBound;
        uint64 accepted;
        uint64 attested;
        uint64 against;
    }

    Core internal _core;
    Tally internal _tally;
    bytes32 internal _openHead;
    bytes32 internal _proposedHead;
    bytes32 internal _proposedModel;
    bytes32 internal _model;

    /// @inheritdoc IAggregationLedger
    function model() external view returns (bytes32) {
        return _model;
    }

    /// @inheritdoc IAggregationLedger
    function lastRound() external view returns (Round memory round) {
        Core memory core = _core;
        if (core.number == 0) return round; // what stands in the slots is only {_prime}'s
        Tally memory tally = _tally;
        return Round({
            number: core.number,
            phase: core.phase,
            commitDeadline: core.commitDeadline,
            attestDeadline: core.attestDeadline,
            weightCap: tally.weightCap,
            normBound: tally.normBound,
            rosterCount: core.rosterCount,
            rosterWeight: core.rosterWeight,
            acceptedWeight: core.acceptedWeight,
            committed: core.committed,
            accepted: tally.accepted,
            attested: tally.attested,
            against: tally.against,
            openHead: _openHead,
            proposedHead: _proposedHead,
            proposedModel: _proposedModel
        });
    }

    /// @dev Fills the slots that an opening writes, so that the first one pays for no zero slot either: a slot
    /// costs 22,100 gas to fill and 5,000 to change. Nothing reads these values: {lastRound} shows zeros
    /// until round 1, and every function of a round asks for a live one first.
    function _prime() internal {
        _core.attestDeadline = 1;
        _tally.normBound = 1;
        _openHead = head();
    }

    /// @dev The active members at opening. The weight cap is a share of their *registered* weight, taken
    /// once; among capped weights, or among those accepted later, one hospital's share may be larger.
    function _muster() internal view returns (uint8 rosterCount, uint32 rosterWeight, uint24 weightCap) {
        uint64 active = _roll.electorate & _roll.registered;
        uint256 count = active.count();
        if (count == 0) revert InvalidArgument("roster");
        uint256[] memory weights = new uint256[](count);
        uint256 total = 0;
        // No overflow: 64 weights of 24 bits, times 10000, are below 2^44.
        unchecked {
            uint256 found = 0;
            for (uint256 index = 0; found < count; ++index) {
                if (!active.has(index)) continue;
                uint256 weight = _weights[index];
                weights[found++] = weight;
                total += weight;
            }
            uint256 cap = Math.min(Math.max(total * SHARE_CAP / BASIS, 1), MAX_WEIGHT);
            total = 0;
            for (uint256 i = 0; i < count; ++i) {
                total += Math.min(weights[i], cap);
            }
            return (uint8(count), uint32(total), uint24(cap));
        }
    }

    /// @dev Reads every committed hospital's effective weight and commit hash once, by ascending seat.
    function _count(uint64 committed, uint64 accepted, uint24 weightCap)
        internal
        view
        returns (SumCheck.Count memory counted)
    {
        bytes32[] memory hashes = new bytes32[](committed.count());
        bytes32[] memory acceptedHashes = new bytes32[](accepted.count());
        counted.seats = new uint256[](acceptedHashes.length);
        counted.weights = new uint256[](acceptedHashes.length);
        // No overflow: 64 weights of 24 bits.
        unchecked {
            uint256 found = 0;
            uint256 taken = 0;
            for (uint256 index = 0; found < hashes.length; ++index) {
                if (!committed.has(index)) continue;
                uint256 weight = Math.min(_weights[index], weightCap);
                bytes32 commitHash = _commits[index];
                hashes[found++] = commitHash;
                counted.committedWeight += weight;
                if (accepted.has(index)) {
                    acceptedHashes[taken] = commitHash;
                    counted.seats[taken] = index;
                    counted.weights[taken++] = weight;
                    counted.acceptedWeight += weight;
                }
            }
        }
        counted.committedDigest = keccak256(abi.encodePacked(hashes));
        counted.acceptedDigest = keccak256(abi.encodePacked(acceptedHashes));
    }

    /// @dev The round, if it is the live one and in this phase.
    function _inPhase(uint32 round, Phase phase) internal view returns (Core memory core) {
        core = _core;
        if (core.number != round || core.phase == Phase.Idle) revert RoundClosed(round);
        if (core.phase != phase) revert WrongPhase(core.phase);
    }

    function _time() internal view returns (uint40) {
        return block.timestamp.toUint40();
    }

    function _lastNumber() internal view override returns (uint32) {
        return _core.number;
    }

    function _live() internal view override returns (bool) {
        return _core.phase != Phase.Idle;
    }
}
