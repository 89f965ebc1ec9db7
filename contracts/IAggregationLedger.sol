// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The ledger of a federation: what an auditor reads first.
/// @notice One coordinator, up to 64 hospitals, one live round at a time. Each hospital commits the
/// digest of its sealed update and its spent privacy budget in its own transaction; the coordinator
/// proposes one weighted sum; the contract totals the hospitals' probes with its own weights; every
/// accepted hospital checks the sum against that total and attests.
/// @dev Shares are basis points (1/10000). Epsilon is in micro-units, rounded up. `head` is a hash
/// chain over every record but commits and answers, which the proposal and the closing record fold in.
interface IAggregationLedger {
    /// @notice Where the live round stands.
    enum Phase { Idle, Committing, Attesting }

    /// @notice How a round ended.
    enum Outcome { None, SumVerified, QuorumOnly, Aborted }

    /// @notice Whom the privacy guarantee protects.
    enum Unit { None, Image, Patient }

    /// @notice What members vote on.
    enum Ballot { Enrol, Remove, SetCoordinator }

    /// @notice What a head record records.
    enum Kind { Deployed, Registered, CapLowered, WeightSet, Enacted, Opened, Proposed, Finalised, Aborted }

    /// @notice Fixed at deployment.
    struct Rules {
        bytes32 federationId;        // random; chain ids and addresses repeat on development nodes
        bytes32 initialModel;        // SHA-256 of the model file of round 0
        Unit privacyUnit;            // None: epsilon must be zero
        uint16 minAcceptedOfCommits; // accepted / committed, in number and in weight
        uint16 minAcceptedOfMembers; // accepted / active members, in number and in weight
        uint16 maxSilentShare;       // weight that may stay silent in a QuorumOnly round; 0 forbids them
        uint16 shareCap;             // largest share of the registered weight one hospital may carry
        uint16 voteShare;            // a ballot passes with strictly more than this share of members
        uint32 minCommitWindow;      // seconds before the coordinator may close the commit window
    }

    /// @notice The mechanism a hospital ran this round, and its cumulative cost.
    struct Mechanism {
        uint40 epsilon;         // cumulative over all rounds, micro-units, rounded up
        uint32 noiseMultiplier; // 1e-6
        uint32 sampleRate;      // 1e-9, rounded up
        uint32 steps;           // this round's
        uint40 delta;           // 1e-12
        bytes32 list;           // digest of the list of mechanisms when there are several, else zero
    }

    /// @notice One hospital's standing.
    struct Member {
        uint8 seat;          // position in every bitmap
        bool registered;     // it has set its own cap and weight
        uint24 weight;       // registered, bucketed example count
        uint40 cap;          // micro-epsilon; may only fall
        uint40 spent;        // micro-epsilon; may only rise
        uint32 activeFrom;   // first round it may take part in
        uint32 activeUntil;  // first round it may no longer take part in
        bytes32 commitHash;  // of its latest commit
    }

    /// @notice The live (or last) round.
    struct Round {
        uint32 number;
        Phase phase;
        uint40 commitDeadline;  // Unix seconds
        uint40 attestDeadline;  // Unix seconds; while committing: the attest window's length
        uint24 weightCap;       // effective weight = min(registered, weightCap)
        uint40 normBound;       // L2, in quantised units
        uint8 rosterCount;      // active members at opening
        uint32 rosterWeight;    // their effective weight
        uint32 acceptedWeight;  // effective
        uint64 committed;       // bitmaps by seat
        uint64 accepted;
        uint64 attested;
        uint64 against;         // dissented (if accepted) or contested (if refused)
        bytes32 openHead;       // the head every commit of this round must name
        bytes32 beacon;
        bytes32 proposedModel;
    }

    // ---- events: past tense; every record's fields, so that events alone rebuild the state ----

    event HeadAdvanced(uint64 indexed sequence, Kind indexed kind, bytes32 record, bytes32 head);
    event Deployed(Rules rules, address coordinator, address[] founders);
    event Registered(address indexed hospital, uint8 seat, uint40 cap, uint40 spent, uint24 weight, uint32 activeFrom);
    event CapLowered(address indexed hospital, uint40 cap);
    event WeightSet(address indexed hospital, uint24 weight);
    event Voted(address indexed hospital, Ballot kind, address subject, uint32 epoch, uint64 votes);
    event Enacted(Ballot kind, address indexed subject, uint32 epoch, uint32 fromRound);
    event RoundOpened(
        uint32 indexed round, bytes32 openHead, bytes32 baseModel, bytes32 configDigest, bytes32 keyDigest,
        uint40 normBound, uint40 commitDeadline, uint32 attestWindow, uint24 weightCap, uint8 rosterCount,
        uint32 rosterWeight
    );
    event CommitsClosed(uint32 indexed round, uint40 closedAt);
    event Committed(
        uint32 indexed round, address indexed hospital, uint8 seat, bytes32 sealDigest, bytes32 openingDigest,
        uint24 weight, Mechanism mechanism
    );
    event Proposed(
        uint32 indexed round, bytes32 sumDigest, bytes32 modelDigest, bytes32 beacon, uint64 accepted,
        uint64 refused, uint32 acceptedWeight, uint40 attestDeadline, bytes reasons, bytes probes, bytes totals
    );
    event Attested(uint32 indexed round, address indexed hospital, bytes32 beacon);
    event Dissented(uint32 indexed round, address indexed hospital, uint8 code);
    event Contested(uint32 indexed round, address indexed hospital, uint8 code);
    event Finalised(uint32 indexed round, Outcome outcome, bytes32 model, uint64 attested, uint64 against, uint32 unattestedWeight);
    event RoundAborted(uint32 indexed round, Phase phase, uint64 committed, uint64 attested, uint64 against, bytes32 commitsDigest);

    // ---- errors: the sender learns what the contract saw ----

    error NotMember(address sender);
    error MemberRevoked(address sender, uint32 sinceRound);
    error AlreadyMember(address subject);
    error AlreadyRegistered(address sender);
    error AlreadyCommitted(address sender, uint32 round);
    error AlreadyAnswered(address sender, uint32 round);
    error AlreadyVoted(address sender);
    error CommitWindowClosed(uint32 round, uint40 closedAt, uint40 time);
    error CommitWindowOpen(uint32 round, uint40 closesAt, uint40 time);
    error HeadMismatch(bytes32 expected, bytes32 given);
    error BudgetExceeded(uint40 cap, uint40 given);
    error BudgetNotCharged(uint40 spent, uint40 given);
    error CapMayOnlyFall(uint40 cap, uint40 given);
    error RoundLive(uint32 round);
    error NotCoordinator(address sender);
    error TooFewAccepted(uint256 accepted, uint256 needed);
    error CommitUnaccounted(uint64 committed, uint64 accepted, uint64 refused);
    error ParentMismatch(bytes32 expected, bytes32 given);
    error WrongPhase(Phase phase);
    error WrongBeacon(bytes32 expected, bytes32 given);
    error NotAccepted(address sender, uint32 round);
    error NotRefused(address sender, uint32 round);
    error AttestWindowClosed(uint32 round, uint40 closedAt, uint40 time);
    error AttestationsMissing(uint64 accepted, uint64 attested);
    error RoundClosed(uint32 round);
    error RoundFinalisable(uint32 round);
    error VotesMissing(uint256 votes, uint256 needed);
    error NormCapExceeded(uint8 seat, uint256 sumOfSquares, uint256 cap);
    error WeightOverflow(uint256 weight, uint256 max);
    error DeadlineNotPassed(uint40 deadline, uint40 time);
    error InvalidArgument(string what);

    // ---- membership and budget: each by the hospital's own transaction ----

    /// @notice Takes the seat a member was enrolled for. Once.
    /// @param cap Largest cumulative epsilon this hospital will ever spend here.
    /// @param openingEpsilon Already spent elsewhere on the same patients (a migration), carried over.
    /// @param weight Bucketed example count, 1 to 2^24 - 1.
    function register(uint40 cap, uint40 openingEpsilon, uint32 weight) external;
    function lowerCap(uint40 cap) external;
    /// @notice Between rounds only.
    function setWeight(uint32 weight) external;
    function vote(Ballot kind, address subject) external;
    /// @notice By anyone, once the votes are there; membership changes take effect from the next round.
    function enact(Ballot kind, address subject) external;

    // ---- one round ----

    function openRound(
        bytes32 expectedHead, bytes32 baseModel, bytes32 configDigest, bytes32 keyDigest, uint40 normBound,
        uint32 commitWindow, uint32 attestWindow
    ) external;
    /// @notice Ends the commit window before its deadline (not before `minCommitWindow`), on record.
    function closeCommits(uint32 round) external;
    function commit(bytes32 openHead, bytes32 sealDigest, bytes32 openingDigest, Mechanism calldata mechanism) external;
    /// @param reasons One non-zero error code a refused hospital, by ascending seat.
    /// @param probes 16 big-endian int64 an accepted hospital, by ascending seat.
    function propose(
        uint32 round, bytes32 sumDigest, bytes32 modelDigest, uint64 accepted, uint64 refused, bytes calldata reasons,
        bytes calldata probes
    ) external;
    function attest(uint32 round, bytes32 beacon) external;
    function dissent(uint32 round, uint8 code) external;
    function contest(uint32 round, uint8 code) external;
    function finalise(uint32 round) external;
    function abort(uint32 round) external;

    // ---- views ----

    function rules() external view returns (Rules memory);
    function coordinator() external view returns (address);
    function head() external view returns (bytes32);
    function sequence() external view returns (uint64);
    function model() external view returns (bytes32);
    function lastRound() external view returns (Round memory);
    function member(address hospital) external view returns (Member memory);
    function seats() external view returns (address[] memory);
}
