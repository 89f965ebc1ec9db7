// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Bitmap} from "./Bitmap.sol";
import {FederationRules} from "./FederationRules.sol";
import {HeadChain} from "./HeadChain.sol";
import {IAggregationLedger} from "./IAggregationLedger.sol";

/// @title Who takes part, with which weight and which privacy budget.
/// @notice An address is enrolled once ever (a second enrolment would reset a budget) and takes a seat,
/// its bit in every bitmap. It becomes active by registering its own cap and weight, in its own
/// transaction. Enrolment, removal and change of coordinator are ballots of the electorate.
abstract contract Membership is HeadChain, FederationRules {
    using Bitmap for uint64;

    uint256 internal constant MAX_SEATS = 64;
    uint32 internal constant MAX_WEIGHT = type(uint24).max;
    uint32 private constant NEVER = type(uint32).max;
    /// @dev Stands in a commit slot before the first commit: a slot that is never zero is cheap to rewrite.
    bytes32 internal constant COMMIT_TAG = keccak256("thoracle/commit/v1");

    /// @dev One slot a hospital, never zero once it is enrolled.
    struct Seat {
        uint8 seatPlusOne; // 0: never enrolled
        uint24 weight;
        uint40 cap;
        uint40 spent;
        uint32 activeFrom;
        uint32 activeUntil;
        bool registered;
    }

    /// @dev Members by their bits. Only enactments change `electorate`, and each one starts a new epoch,
    /// so every vote of an epoch was cast by a member who is still one.
    struct Roll {
        uint64 electorate; // enrolled and not removed
        uint64 registered; // ever
        uint32 epoch;
    }

    Roll internal _roll;
    mapping(address hospital => Seat) internal _seats;
    mapping(uint256 seat => address) private _hospitals;
    mapping(uint256 seat => bytes32) internal _commits;
    /// @dev `Seat.weight` once more, ten a slot: opening and proposing read every hospital's.
    uint24[MAX_SEATS] internal _weights;
    mapping(bytes32 ballot => uint64 votes) private _votes;

    /// @inheritdoc IAggregationLedger
    function register(uint40 cap, uint40 openingEpsilon, uint32 weight) external {
        uint256 index = _seatOf(msg.sender);
        Seat memory seat = _seats[msg.sender];
        if (seat.activeUntil != NEVER) revert MemberRevoked(msg.sender, seat.activeUntil);
        if (seat.registered) revert AlreadyRegistered(msg.sender);
        if (openingEpsilon > cap) revert BudgetExceeded(cap, openingEpsilon);
        if (openingEpsilon != 0 && PRIVACY_UNIT == Unit.None) revert InvalidArgument("openingEpsilon");
        seat.weight = _checkedWeight(weight);
        seat.cap = cap;
        seat.spent = openingEpsilon;
        seat.activeFrom = _lastNumber() + 1;
        seat.registered = true;
        _seats[msg.sender] = seat;
        _weights[index] = seat.weight;
        _commits[index] = COMMIT_TAG;
        _roll.registered |= Bitmap.only(index);
        bytes32 record =
            keccak256(abi.encode(msg.sender, index, cap, openingEpsilon, seat.weight, seat.activeFrom));
        _advance(Kind.Registered, record);
        emit Registered(msg.sender, uint8(index), cap, openingEpsilon, seat.weight, seat.activeFrom);
    }

    /// @inheritdoc IAggregationLedger
    function lowerCap(uint40 cap) external {
        _standing(msg.sender);
        uint40 current = _seats[msg.sender].cap;
        if (cap >= current) revert CapMayOnlyFall(current, cap);
        _seats[msg.sender].cap = cap;
        _advance(Kind.CapLowered, keccak256(abi.encode(msg.sender, cap)));
        emit CapLowered(msg.sender, cap);
    }

    /// @inheritdoc IAggregationLedger
    function setWeight(uint32 weight) external {
        uint256 index = _standing(msg.sender);
        if (_live()) revert RoundLive(_lastNumber());
        uint24 checkedWeight = _checkedWeight(weight);
        _seats[msg.sender].weight = checkedWeight;
        _weights[index] = checkedWeight;
        _advance(Kind.WeightSet, keccak256(abi.encode(msg.sender, checkedWeight)));
        emit WeightSet(msg.sender, checkedWeight);
    }

    /// @inheritdoc IAggregationLedger
    function vote(Ballot kind, address subject) external {
        uint256 index = _seatOf(msg.sender);
        Roll memory roll = _roll;
        if (!roll.electorate.has(index)) revert MemberRevoked(msg.sender, _seats[msg.sender].activeUntil);
        _checkSubject(kind, subject, roll);
        bytes32 ballot = keccak256(abi.encode(kind, subject, roll.epoch));
        uint64 votes = _votes[ballot];
        if (votes.has(index)) revert AlreadyVoted(msg.sender);
        votes |= Bitmap.only(index);
        _votes[ballot] = votes;
        emit Voted(msg.sender, kind, subject, roll.epoch, votes);
    }

    /// @inheritdoc IAggregationLedger
    function enact(Ballot kind, address subject) external {
        Roll memory roll = _roll;
        _checkSubject(kind, subject, roll);
        uint64 votes = _votes[keccak256(abi.encode(kind, subject, roll.epoch))];
        uint256 needed = roll.electorate.count() * VOTE_SHARE / BASIS + 1;
        if (votes.count() < needed) revert VotesMissing(votes.count(), needed);
        uint32 fromRound = _lastNumber() + 1;
        _roll.epoch = roll.epoch + 1;
        if (kind == Ballot.Enrol) {
            _enrol(subject);
        } else if (kind == Ballot.Remove) {
            _roll.electorate = roll.electorate & ~Bitmap.only(_seatOf(subject));
            _seats[subject].activeUntil = fromRound;
        } else {
            if (_live()) --fromRound;
            _clerk.coordinator = subject;
        }
        _advance(Kind.Enacted, keccak256(abi.encode(kind, subject, roll.epoch, fromRound, votes)));
        emit Enacted(kind, subject, roll.epoch, fromRound);
    }

    /// @inheritdoc IAggregationLedger
    function member(address hospital) external view returns (Member memory) {
        uint256 index = _seatOf(hospital);
        Seat memory seat = _seats[hospital];
        bytes32 latest = _commits[index];
        return Member({
            seat: uint8(index),
            registered: seat.registered,
            weight: seat.weight,
            cap: seat.cap,
            spent: seat.spent,
            activeFrom: seat.activeFrom,
            activeUntil: seat.activeUntil,
            commitHash: latest == COMMIT_TAG ? bytes32(0) : latest
        });
    }

    /// @inheritdoc IAggregationLedger
    function seats() external view returns (address[] memory hospitals) {
        hospitals = new address[](_clerk.seatCount);
        for (uint256 i = 0; i < hospitals.length; ++i) {
            hospitals[i] = _hospitals[i];
        }
    }

    /// @dev Seats an address for good.
    function _enrol(address hospital) internal {
        if (hospital == address(0)) revert InvalidArgument("hospital");
        if (_seats[hospital].seatPlusOne != 0) revert AlreadyMember(hospital);
        uint256 index = _clerk.seatCount;
        if (index >= MAX_SEATS) revert InvalidArgument("seats");
        _clerk.seatCount = uint8(index + 1);
        Seat storage seat = _seats[hospital];
        seat.seatPlusOne = uint8(index + 1);
        seat.activeFrom = NEVER;
        seat.activeUntil = NEVER;
        _hospitals[index] = hospital;
        _roll.electorate |= Bitmap.only(index);
    }

    /// @dev The seat of an address that was ever enrolled; `NotMember` otherwise.
    function _seatOf(address hospital) internal view returns (uint256) {
        uint256 plusOne = _seats[hospital].seatPlusOne;
        if (plusOne == 0) revert NotMember(hospital);
        // No underflow: it is not zero.
        unchecked {
            return plusOne - 1;
        }
    }

    /// @dev The seat of a registered member that was not removed.
    function _standing(address hospital) private view returns (uint256 index) {
        index = _seatOf(hospital);
        Seat memory seat = _seats[hospital];
        if (seat.activeUntil != NEVER) revert MemberRevoked(hospital, seat.activeUntil);
        if (!seat.registered) revert NotMember(hospital);
    }

    /// @dev Refuses a ballot that could never take effect.
    function _checkSubject(Ballot kind, address subject, Roll memory roll) private view {
        if (subject == address(0)) revert InvalidArgument("subject");
        if (kind == Ballot.Enrol) {
            if (_seats[subject].seatPlusOne != 0) revert AlreadyMember(subject);
            if (_clerk.seatCount >= MAX_SEATS) revert InvalidArgument("seats");
        } else if (kind == Ballot.Remove) {
            uint256 index = _seatOf(subject);
            if (!roll.electorate.has(index)) revert MemberRevoked(subject, _seats[subject].activeUntil);
        }
    }

    function _checkedWeight(uint32 weight) private pure returns (uint24) {
        if (weight == 0 || weight > MAX_WEIGHT) revert WeightOverflow(weight, MAX_WEIGHT);
        return uint24(weight);
    }

    /// @dev Number of the live or last round.
    function _lastNumber() internal view virtual returns (uint32);

    /// @dev Whether a round is live.
    function _live() internal view virtual returns (bool);
}
