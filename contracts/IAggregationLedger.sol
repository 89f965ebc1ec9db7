// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title The ledger of a federation: what an auditor reads first.
/// @notice One coordinator, up to 64 hospitals, one live round at a time. Each hospital commits the
/// digest of its sealed update and its spent privacy budget in its own transaction; the coordinator
/// proposes one weighted sum; the contract totals the hospitals' probes with its own weights; every
/// accepted hospital checks the sum against that total and attests.
/// @dev Shares are basis points (1/10000). Epsilon is in micro-units (1e-6), rounded up. Times are Unix
/// seconds of the block; a chain run by one operator has that operator's clock.
///
/// The hash chain: `head' = keccak256(abi.encode(HEAD_TAG, head, sequence, kind, record))` with
/// HEAD_TAG = keccak256("thoracle/head/v1"), `head` = 0 and `sequence` = 0 at the genesis record and one
/// more at each further one. `record = keccak256(abi.encode(fields))` of the fields each function names
/// below, typed as in its event; all of them stand in this or earlier events, so events alone let anyone
/// recompute every head. {HeadAdvanced} stands directly before the event whose record it is.
///
/// Commits and answers advance no head, so that they cost little and can cross in one block. The head of
/// the round's opening, which every commit names, fixes what came before them; the proposal (or the
/// abort) folds every commit hash in. Every attestation names the proposal's head, and so all that led to
/// it: a hospital that was shown anything else names another. The closing record folds the answers'
/// bitmaps in. The codes of dissents and contests stand in events only.
///
/// commitHash = keccak256(abi.encode(COMMIT_TAG, federationId, round, hospital, sealDigest, openingDigest,
/// mechanism)) with COMMIT_TAG = keccak256("thoracle/commit/v1"). commitsDigest = keccak256 of the 32-byte
/// commit hashes of every committed seat, joined by ascending seat (keccak256 of nothing if there is none).
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
        uint16 maxSilentShare;       // weight that may stay silent in a QuorumOnly round; 0 forbids those rounds
        uint16 shareCap;             // largest share of the roster's registered weight one hospital may carry
        uint16 voteShare;            // a ballot passes with strictly more than this share of the electorate
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
        uint32 activeFrom;   // first round it may take part in; 2^32 - 1: not registered
        uint32 activeUntil;  // first round it may no longer take part in; 2^32 - 1: not removed
        bytes32 commitHash;  // of its latest commit; 0: none yet
    }

    /// @notice The live (or last) round.
    struct Round {
        uint32 number;
        Phase phase;            // Idle: this is the last round, and it is over
        uint40 commitDeadline;  // Unix seconds; commits before it, a proposal from it on
        uint40 attestDeadline;  // Unix seconds; answers before it. While committing: the window's length
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
        bytes32 proposedHead;   // the head every attestation must name; the last proposal's while committing
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
    event Attested(uint32 indexed round, address indexed hospital, bytes32 proposedHead);
    event Dissented(uint32 indexed round, address indexed hospital, uint8 code);
    event Contested(uint32 indexed round, address indexed hospital, uint8 code);
    event Finalised(
        uint32 indexed round, Outcome outcome, bytes32 model, uint64 attested, uint64 against, uint32 unattestedWeight
    );
    event RoundAborted(
        uint32 indexed round, Phase phase, uint64 committed, uint64 attested, uint64 against, bytes32 commitsDigest
    );

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

    /// @notice Takes the seat the sender was enrolled for. Once, and active from the next round.
    /// @param cap Largest cumulative epsilon this hospital will ever spend here, micro-units.
    /// @param openingEpsilon Already spent elsewhere on the same patients (a migration), carried over.
    /// @param weight Bucketed example count, 1 to 2^24 - 1.
    ///
    /// Requirements:
    ///
    /// - the sender is enrolled (`NotMember`), not removed (`MemberRevoked`), and registers for the first
    ///   time (`AlreadyRegistered`).
    /// - `openingEpsilon` is at most `cap` (`BudgetExceeded`), and 0 if the privacy unit is `None`.
    /// - `weight` is in range (`WeightOverflow`).
    ///
    /// Emits {Registered}; record `(hospital, seat, cap, spent, weight, activeFrom)`.
    function register(uint40 cap, uint40 openingEpsilon, uint32 weight) external;

    /// @notice Lowers the sender's cap, at any time; below what is spent it ends the hospital's rounds.
    ///
    /// Requirements: the sender is registered and not removed; `cap` is lower than before
    /// (`CapMayOnlyFall`).
    ///
    /// Emits {CapLowered}; record `(hospital, cap)`.
    function lowerCap(uint40 cap) external;

    /// @notice Sets the sender's registered weight, between rounds only.
    ///
    /// Requirements: the sender is registered and not removed; no round is live (`RoundLive`); `weight` is
    /// in range (`WeightOverflow`).
    ///
    /// Emits {WeightSet}; record `(hospital, weight)`.
    function setWeight(uint32 weight) external;

    /// @notice Votes for a ballot of the current epoch.
    /// @dev The electorate is every enrolled member that was not removed, registered or not: were it the
    /// registered ones only, the first founder to register could vote alone.
    ///
    /// Requirements:
    ///
    /// - the sender is enrolled (`NotMember`) and not removed (`MemberRevoked`), and has not voted on this
    ///   ballot in this epoch (`AlreadyVoted`).
    /// - `Enrol`: the subject was never enrolled (`AlreadyMember`) and a seat is free. `Remove`: it is
    ///   enrolled and not removed. `SetCoordinator`: it is not zero.
    ///
    /// Emits {Voted}, which advances no head; {enact} folds the votes in.
    function vote(Ballot kind, address subject) external;

    /// @notice Carries a ballot out, by anyone, and starts a new epoch (all other open votes lapse).
    /// @dev `Enrol` seats the subject, for good: a removed address never returns, so its budget cannot be
    /// reset. `Remove` takes effect from the next round; a live round is unaffected. `SetCoordinator` takes
    /// effect at once, also in a live round: if it had to wait for the round's end, a hostile coordinator
    /// could keep a round live for as long as its windows last, and open the next one before the vote.
    ///
    /// Requirements: as for {vote}, and more than `voteShare` of the electorate has voted, that is
    /// floor(electorate * voteShare / 10000) + 1 (`VotesMissing`).
    ///
    /// Emits {Enacted}; record `(kind, subject, epoch, fromRound, votes)`, `votes` as in the last {Voted} of
    /// this ballot; `fromRound` is the next round, but for `SetCoordinator` the live one if there is one.
    function enact(Ballot kind, address subject) external;

    // ---- one round ----

    /// @notice Opens the next round on the last final model.
    /// @dev weightCap = max(1, floor(R * shareCap / 10000)), at most 2^24 - 1, where R is the roster's
    /// *registered* weight. The effective weight of a hospital is min(registered, weightCap). The share is
    /// thus one of the registered total: of the effective total, or of those accepted later, a hospital may
    /// carry more.
    /// @param expectedHead The head the coordinator built this round on.
    /// @param normBound B: L2 norm, in quantised units, that no update may exceed.
    /// @param commitWindow Seconds, 1 to MAX_WINDOW and at least `minCommitWindow`.
    /// @param attestWindow Seconds, 1 to MAX_WINDOW.
    ///
    /// Requirements:
    ///
    /// - the sender is the coordinator (`NotCoordinator`); no round is live (`RoundLive`).
    /// - `expectedHead` is the head (`HeadMismatch`); `baseModel` is the last final model
    ///   (`ParentMismatch`).
    /// - `normBound` is positive, the windows are in range, at least one member is active
    ///   (`InvalidArgument`).
    ///
    /// Emits {RoundOpened}; record `(round, baseModel, configDigest, keyDigest, normBound, commitDeadline,
    /// attestWindow, weightCap, rosterCount, rosterWeight)`; `openHead` is the head it leads to.
    function openRound(
        bytes32 expectedHead, bytes32 baseModel, bytes32 configDigest, bytes32 keyDigest, uint40 normBound,
        uint32 commitWindow, uint32 attestWindow
    ) external;

    /// @notice Ends the commit window before its deadline, on record.
    ///
    /// Requirements: the sender is the coordinator; the round is live and committing; its window has not
    /// closed (`CommitWindowClosed`) and `minCommitWindow` has passed since its opening
    /// (`CommitWindowOpen`).
    ///
    /// Emits {CommitsClosed}; the new deadline enters the head with the proposal or the abort.
    function closeCommits(uint32 round) external;

    /// @notice Commits the sender to its sealed update, and charges its privacy budget for good.
    /// @param openHead The head directly after this round's opening, as the hospital saw it.
    /// @param sealDigest SHA-256 of the ciphertext.
    /// @param openingDigest SHA-256 over federation, hospital, base model, round, salt and update.
    ///
    /// Requirements, in this order:
    ///
    /// - the sender is an active member of this round (`NotMember`, `MemberRevoked`).
    /// - a round is live (`RoundClosed`), committing (`WrongPhase`), before its deadline
    ///   (`CommitWindowClosed`).
    /// - `openHead` is the round's (`HeadMismatch`); it is the sender's first commit (`AlreadyCommitted`).
    /// - the cumulative epsilon rises (`BudgetNotCharged`) and is within the cap (`BudgetExceeded`). With
    ///   the privacy unit `None` the mechanism is all zero instead (`InvalidArgument`).
    ///
    /// Emits {Committed} with the effective weight.
    function commit(bytes32 openHead, bytes32 sealDigest, bytes32 openingDigest, Mechanism calldata mechanism) external;

    /// @notice Proposes the round's one sum. It cannot be taken back: serving the sums of two subsets would
    /// reveal a hospital by their difference.
    /// @dev beacon = keccak256(abi.encode(BEACON_TAG, federationId, round, sumDigest, modelDigest, accepted,
    /// keccak256 of the accepted commit hashes, joined by ascending seat)), BEACON_TAG =
    /// keccak256("thoracle/beacon/v1"). Totals are T_j = sum_i w_i t_ij with effective weights.
    /// @param accepted Bitmap by seat. @param refused Bitmap by seat.
    /// @param reasons One non-zero error code a refused hospital, by ascending seat.
    /// @param probes 16 big-endian int64 an accepted hospital, by ascending seat.
    ///
    /// Requirements:
    ///
    /// - the sender is the coordinator; the round is live and committing (`RoundClosed`, `WrongPhase`);
    ///   the window has closed or the whole roster has committed (`CommitWindowOpen`).
    /// - `accepted` and `refused` cover every commit exactly once (`CommitUnaccounted`); `reasons` and
    ///   `probes` have their lengths (`InvalidArgument`).
    /// - at least one hospital, `minAcceptedOfCommits` of the commits and `minAcceptedOfMembers` of the
    ///   roster are accepted, in number and in effective weight (`TooFewAccepted`).
    /// - every accepted hospital's probes satisfy 12 sum_j t_ij^2 <= 59 B^2 (2^32 - 1) (`NormCapExceeded`).
    ///
    /// Emits {Proposed}; record `(round, sumDigest, modelDigest, beacon, accepted, refused, acceptedWeight,
    /// commitDeadline, attestDeadline, keccak256(reasons), keccak256(probes), keccak256(totals),
    /// commitsDigest)`; the head it leads to is the one that {attest} asks for.
    function propose(
        uint32 round, bytes32 sumDigest, bytes32 modelDigest, uint64 accepted, uint64 refused, bytes calldata reasons,
        bytes calldata probes
    ) external;

    /// @notice States that the sender checked the sum, the model, the totals and its own probes.
    /// @param proposedHead The head directly after this round's proposal, which the sender computed from
    /// the events it was shown: its signature is then one over every byte of them.
    ///
    /// Requirements: the sender was ever enrolled (`NotMember`); the round is live and attesting
    /// (`RoundClosed`, `WrongPhase`), before its deadline (`AttestWindowClosed`); the sender is accepted
    /// (`NotAccepted`) and has not answered (`AlreadyAnswered`); `proposedHead` is the proposal's
    /// (`HeadMismatch`).
    ///
    /// Emits {Attested}.
    function attest(uint32 round, bytes32 proposedHead) external;

    /// @notice States that the proposal is wrong; anyone may then abort the round.
    ///
    /// Requirements: as for {attest}, with a non-zero `code` (`InvalidArgument`) instead of the head: a
    /// dissent makes nothing final, so it need not show what it was about.
    ///
    /// Emits {Dissented}.
    function dissent(uint32 round, uint8 code) external;

    /// @notice States that the sender was refused wrongly. On record; it does not stop the round.
    ///
    /// Requirements: as for {dissent}, with a refused sender (`NotRefused`).
    ///
    /// Emits {Contested}.
    function contest(uint32 round, uint8 code) external;

    /// @notice Makes the proposed model final, by anyone.
    /// @dev `SumVerified`: every accepted hospital attested. `QuorumOnly`: the attest window has closed, no
    /// accepted hospital dissented, and the silent ones carry at most `maxSilentShare` of the accepted
    /// weight.
    ///
    /// Requirements: the round is live and attesting (`RoundClosed`, `WrongPhase`); one of the two holds
    /// (`AttestationsMissing`).
    ///
    /// Emits {Finalised}; record `(round, outcome, model, attested, against, unattestedWeight)`.
    function finalise(uint32 round) external;

    /// @notice Ends the round without a model; the base stands and every charged budget stays spent.
    ///
    /// Requirements:
    ///
    /// - the round is live (`RoundClosed`) and cannot be finalised now (`RoundFinalisable`).
    /// - while committing: the sender is the coordinator, or commit deadline and attest window have both
    ///   passed. While attesting: an accepted hospital dissented, or the attest window has closed
    ///   (`DeadlineNotPassed`).
    ///
    /// Emits {RoundAborted}; record `(round, phase, commitDeadline, committed, attested, against,
    /// commitsDigest)`.
    function abort(uint32 round) external;

    // ---- views ----

    function rules() external view returns (Rules memory);
    function coordinator() external view returns (address);
    /// @notice The head of the hash chain.
    function head() external view returns (bytes32);
    /// @notice Number of the latest record; the genesis record is number 0.
    function sequence() external view returns (uint64);
    /// @notice The last final model.
    function model() external view returns (bytes32);
    /// @notice The live round, or the last one if its phase is `Idle`.
    function lastRound() external view returns (Round memory);
    /// @notice Standing of an address that was ever enrolled; reverts with `NotMember` otherwise.
    function member(address hospital) external view returns (Member memory);
    /// @notice Every address ever enrolled, by seat; removed ones keep theirs.
    function seats() external view returns (address[] memory);
}
