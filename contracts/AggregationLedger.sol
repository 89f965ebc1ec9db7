// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";
import {SafeCast} from "@openzeppelin/contracts/utils/math/SafeCast.sol";

import {Bitmap} from "./Bitmap.sol";
import {FederationRules} from "./FederationRules.sol";
import {IAggregationLedger} from "./IAggregationLedger.sol";
import {RoundStore} from "./RoundStore.sol";
import {SumCheck} from "./SumCheck.sol";

/// @title The ledger of a federation: one audited round at a time.
/// @notice See {IAggregationLedger} for what each function requires and emits. The contract calls no
/// other contract, holds no money and has no owner: only the coordinator's role can be voted away.
contract AggregationLedger is RoundStore {
    using Bitmap for uint64;
    using SafeCast for uint256;

    /// @notice Founds a federation. Each founder is enrolled, and becomes active by {register}.
    ///
    /// Requirements:
    ///
    /// - `federationId`, `initialModel` and `coordinator_` are not zero; there is at least one founder.
    /// - founders are distinct and at most 64.
    /// - shares are at most 10000 basis points; `maxSilentShare` is below that, so that not even a
    ///   `QuorumOnly` round passes unattested. With a `voteShare` of 10000 no ballot ever passes.
    ///
    /// Emits {HeadAdvanced} and {Deployed}; record `(chainId, this, rules, coordinator, founders)`.
    constructor(Rules memory rules_, address coordinator_, address[] memory founders)
        FederationRules(rules_)
    {
        if (coordinator_ == address(0)) revert InvalidArgument("coordinator");
        if (founders.length == 0) revert InvalidArgument("founders");
        _model = rules_.initialModel;
        _clerk.coordinator = coordinator_;
        for (uint256 i = 0; i < founders.length; ++i) {
            _enrol(founders[i]);
        }
        _begin(keccak256(abi.encode(block.chainid, address(this), rules_, coordinator_, founders)));
        _prime();
        emit Deployed(rules_, coordinator_, founders);
    }

    /// @inheritdoc IAggregationLedger
    function openRound(
        bytes32 expectedHead,
        bytes32 baseModel,
        bytes32 configDigest,
        bytes32 keyDigest,
        uint40 normBound,
        uint32 commitWindow,
        uint32 attestWindow
    ) external {
        if (msg.sender != _clerk.coordinator) revert NotCoordinator(msg.sender);
        Core memory core = _core;
        if (core.phase != Phase.Idle) revert RoundLive(core.number);
        if (expectedHead != head()) revert HeadMismatch(head(), expectedHead);
        if (baseModel != _model) revert ParentMismatch(_model, baseModel);
        if (normBound == 0) revert InvalidArgument("normBound");
        if (commitWindow == 0 || commitWindow < MIN_COMMIT_WINDOW || commitWindow > MAX_WINDOW) {
            revert InvalidArgument("commitWindow");
        }
        if (attestWindow == 0 || attestWindow > MAX_WINDOW) revert InvalidArgument("attestWindow");

        uint24 weightCap;
        (core.rosterCount, core.rosterWeight, weightCap) = _muster();
        uint40 time = _time();
        ++core.number;
        core.phase = Phase.Committing;
        core.commitDeadline = time + commitWindow;
        core.attestDeadline = attestWindow;
        core.acceptedWeight = 0;
        core.committed = 0;
        _core = core;
        _tally = Tally({weightCap: weightCap, normBound: normBound, accepted: 0, attested: 0, against: 0});
        _clerk.openedAt = time;
        bytes32 openHead = _advance(
            Kind.Opened,
            keccak256(
                abi.encode(
                    core.number, baseModel, configDigest, keyDigest, normBound, core.commitDeadline, attestWindow,
                    weightCap, core.rosterCount, core.rosterWeight
                )
            )
        );
        _openHead = openHead;
        emit RoundOpened(
            core.number, openHead, baseModel, configDigest, keyDigest, normBound, core.commitDeadline, attestWindow,
            weightCap, core.rosterCount, core.rosterWeight
        );
    }

    /// @inheritdoc IAggregationLedger
    function closeCommits(uint32 round) external {
        if (msg.sender != _clerk.coordinator) revert NotCoordinator(msg.sender);
        Core memory core = _inPhase(round, Phase.Committing);
        uint40 time = _time();
        if (time >= core.commitDeadline) revert CommitWindowClosed(round, core.commitDeadline, time);
        uint40 earliest = _clerk.openedAt + MIN_COMMIT_WINDOW;
        if (time < earliest) revert CommitWindowOpen(round, earliest, time);
        _core.commitDeadline = time;
        emit CommitsClosed(round, time);
    }

    /// @inheritdoc IAggregationLedger
    function commit(bytes32 openHead, bytes32 sealDigest, bytes32 openingDigest, Mechanism calldata mechanism)
        external
    {
        uint256 index = _seatOf(msg.sender);
        Seat memory seat = _seats[msg.sender];
        Core memory core = _core;
        if (core.number >= seat.activeUntil) revert MemberRevoked(msg.sender, seat.activeUntil);
        if (core.number < seat.activeFrom) revert NotMember(msg.sender);
        if (core.phase == Phase.Idle) revert RoundClosed(core.number);
        if (core.phase != Phase.Committing) revert WrongPhase(core.phase);
        if (_time() >= core.commitDeadline) revert CommitWindowClosed(core.number, core.commitDeadline, _time());
        if (openHead != _openHead) revert HeadMismatch(_openHead, openHead);
        if (core.committed.has(index)) revert AlreadyCommitted(msg.sender, core.number);
        _charge(seat, mechanism);
        _core.committed = core.committed | Bitmap.only(index);
        _commits[index] = keccak256(
            abi.encode(COMMIT_TAG, FEDERATION_ID, core.number, msg.sender, sealDigest, openingDigest, mechanism)
        );
        emit Committed(
            core.number,
            msg.sender,
            uint8(index),
            sealDigest,
            openingDigest,
            uint24(Math.min(seat.weight, _tally.weightCap)),
            mechanism
        );
    }

    /// @inheritdoc IAggregationLedger
    function propose(
        uint32 round,
        bytes32 sumDigest,
        bytes32 modelDigest,
        uint64 accepted,
        uint64 refused,
        bytes calldata reasons,
        bytes calldata probes
    ) external {
        if (msg.sender != _clerk.coordinator) revert NotCoordinator(msg.sender);
        Core memory core = _inPhase(round, Phase.Committing);
        if (_time() < core.commitDeadline && core.committed.count() < core.rosterCount) {
            revert CommitWindowOpen(round, core.commitDeadline, _time());
        }
        _checkSplit(core.committed, accepted, refused, reasons);
        Tally memory tally = _tally;
        SumCheck.Count memory counted = _count(core.committed, accepted, tally.weightCap);
        _checkTurnout(core, counted);
        bytes memory totals = SumCheck.totals(probes, counted, tally.normBound);
        bytes32 beacon = SumCheck.beaconOf(
            FEDERATION_ID, round, sumDigest, modelDigest, accepted, counted.acceptedDigest
        );
        uint40 commitDeadline = core.commitDeadline;
        core.phase = Phase.Attesting;
        core.attestDeadline += _time();
        core.acceptedWeight = counted.acceptedWeight.toUint32();
        _core = core;
        _tally.accepted = accepted;
        _proposedModel = modelDigest;
        bytes32 proposedHead = _advance(
            Kind.Proposed,
            keccak256(
                abi.encode(
                    round, sumDigest, modelDigest, beacon, accepted, refused, core.acceptedWeight, commitDeadline,
                    core.attestDeadline, keccak256(reasons), keccak256(probes), keccak256(totals),
                    counted.committedDigest
                )
            )
        );
        _proposedHead = proposedHead;
        emit Proposed(
            round, sumDigest, modelDigest, beacon, accepted, refused, core.acceptedWeight, core.attestDeadline,
            reasons, probes, totals
        );
    }

    /// @inheritdoc IAggregationLedger
    function attest(uint32 round, bytes32 proposedHead) external {
        (uint256 index, Tally memory tally) = _answering(round);
        if (!tally.accepted.has(index)) revert NotAccepted(msg.sender, round);
        if ((tally.attested | tally.against).has(index)) revert AlreadyAnswered(msg.sender, round);
        if (proposedHead != _proposedHead) revert HeadMismatch(_proposedHead, proposedHead);
        _tally.attested = tally.attested | Bitmap.only(index);
        emit Attested(round, msg.sender, proposedHead);
    }

    /// @inheritdoc IAggregationLedger
    function dissent(uint32 round, uint8 code) external {
        (uint256 index, Tally memory tally) = _answering(round);
        if (!tally.accepted.has(index)) revert NotAccepted(msg.sender, round);
        _oppose(round, index, tally, code);
        emit Dissented(round, msg.sender, code);
    }

    /// @inheritdoc IAggregationLedger
    function contest(uint32 round, uint8 code) external {
        (uint256 index, Tally memory tally) = _answering(round);
        if (!(_core.committed & ~tally.accepted).has(index)) revert NotRefused(msg.sender, round);
        _oppose(round, index, tally, code);
        emit Contested(round, msg.sender, code);
    }

    /// @inheritdoc IAggregationLedger
    function finalise(uint32 round) external {
        Core memory core = _inPhase(round, Phase.Attesting);
        Tally memory tally = _tally;
        (Outcome outcome, uint32 unattested) = _verdict(core, tally);
        if (outcome == Outcome.None) revert AttestationsMissing(tally.accepted, tally.attested);
        bytes32 finalModel = _proposedModel;
        _core.phase = Phase.Idle;
        _model = finalModel;
        _advance(
            Kind.Finalised,
            keccak256(abi.encode(round, outcome, finalModel, tally.attested, tally.against, unattested))
        );
        emit Finalised(round, outcome, finalModel, tally.attested, tally.against, unattested);
    }

    /// @inheritdoc IAggregationLedger
    function abort(uint32 round) external {
        Core memory core = _core;
        if (core.number != round || core.phase == Phase.Idle) revert RoundClosed(round);
        Tally memory tally = _tally;
        if (core.phase == Phase.Committing) {
            uint40 deadline = core.commitDeadline + core.attestDeadline;
            if (msg.sender != _clerk.coordinator && _time() < deadline) revert DeadlineNotPassed(deadline, _time());
        } else {
            (Outcome outcome,) = _verdict(core, tally);
            if (outcome != Outcome.None) revert RoundFinalisable(round);
            bool dissented = tally.against & tally.accepted != 0;
            if (!dissented && _time() < core.attestDeadline) revert DeadlineNotPassed(core.attestDeadline, _time());
        }
        bytes32 commitsDigest = _count(core.committed, 0, tally.weightCap).committedDigest;
        _core.phase = Phase.Idle;
        _advance(
            Kind.Aborted,
            keccak256(
                abi.encode(
                    round, core.phase, core.commitDeadline, core.committed, tally.attested, tally.against, commitsDigest
                )
            )
        );
        emit RoundAborted(round, core.phase, core.committed, tally.attested, tally.against, commitsDigest);
    }

    /// @dev Writes the cumulative epsilon of a commit, or refuses it.
    function _charge(Seat memory seat, Mechanism calldata mechanism) private {
        uint40 epsilon = mechanism.epsilon;
        if (PRIVACY_UNIT == Unit.None) {
            bool used = epsilon | mechanism.noiseMultiplier | mechanism.sampleRate | mechanism.steps
                | mechanism.delta | uint256(mechanism.list) != 0;
            if (used) revert InvalidArgument("mechanism");
            return;
        }
        if (epsilon <= seat.spent) revert BudgetNotCharged(seat.spent, epsilon);
        if (epsilon > seat.cap) revert BudgetExceeded(seat.cap, epsilon);
        _seats[msg.sender].spent = epsilon;
    }

    /// @dev Accepted and refused cover every commit exactly once, and every refusal has a reason.
    function _checkSplit(uint64 committed, uint64 accepted, uint64 refused, bytes calldata reasons) private pure {
        if (accepted | refused != committed || accepted & refused != 0) {
            revert CommitUnaccounted(committed, accepted, refused);
        }
        if (reasons.length != refused.count()) revert InvalidArgument("reasons");
        for (uint256 i = 0; i < reasons.length; ++i) {
            if (reasons[i] == 0) revert InvalidArgument("reasons");
        }
    }

    /// @dev Enough hospitals were accepted: at least one, and the ruled shares in number and in weight.
    function _checkTurnout(Core memory core, SumCheck.Count memory counted) private view {
        uint256 accepted = counted.seats.length;
        uint256 weight = counted.acceptedWeight;
        _checkShare(accepted, core.committed.count(), MIN_OF_COMMITS);
        _checkShare(accepted, core.rosterCount, MIN_OF_MEMBERS);
        _checkShare(weight, counted.committedWeight, MIN_OF_COMMITS);
        _checkShare(weight, core.rosterWeight, MIN_OF_MEMBERS);
    }

    function _checkShare(uint256 part, uint256 whole, uint256 share) private pure {
        uint256 needed = Math.max(Math.ceilDiv(whole * share, BASIS), 1);
        if (part < needed) revert TooFewAccepted(part, needed);
    }

    /// @dev The sender's seat and the tally, while answers are taken.
    function _answering(uint32 round) private view returns (uint256 index, Tally memory tally) {
        index = _seatOf(msg.sender);
        Core memory core = _inPhase(round, Phase.Attesting);
        if (_time() >= core.attestDeadline) revert AttestWindowClosed(round, core.attestDeadline, _time());
        tally = _tally;
    }

    /// @dev Notes a dissent or a contest.
    function _oppose(uint32 round, uint256 index, Tally memory tally, uint8 code) private {
        if ((tally.attested | tally.against).has(index)) revert AlreadyAnswered(msg.sender, round);
        if (code == 0) revert InvalidArgument("code");
        _tally.against = tally.against | Bitmap.only(index);
    }

    /// @dev How the round would end now: `None` while it cannot be finalised.
    function _verdict(Core memory core, Tally memory tally) private view returns (Outcome, uint32 unattested) {
        if (tally.attested == tally.accepted) return (Outcome.SumVerified, 0);
        bool dissented = tally.against & tally.accepted != 0;
        if (MAX_SILENT_SHARE == 0 || dissented || _time() < core.attestDeadline) return (Outcome.None, 0);
        uint64 silent = tally.accepted & ~tally.attested;
        uint256 weight = _count(silent, 0, tally.weightCap).committedWeight;
        if (weight * BASIS > MAX_SILENT_SHARE * core.acceptedWeight) return (Outcome.None, 0);
        return (Outcome.QuorumOnly, weight.toUint32());
    }
}
