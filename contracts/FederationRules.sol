// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Math} from "@openzeppelin/contracts/utils/math/Math.sol";

import {IAggregationLedger} from "./IAggregationLedger.sol";

/// @title The rules of a federation, fixed at deployment and read from the contract's own code.
abstract contract FederationRules is IAggregationLedger {
    /// @notice Longest commit or attest window: a silent coordinator holds up a round no longer than two.
    uint32 public constant MAX_WINDOW = 90 days;

    uint256 internal constant BASIS = 10_000;

    bytes32 internal immutable FEDERATION_ID;
    bytes32 internal immutable INITIAL_MODEL;
    Unit internal immutable PRIVACY_UNIT;
    uint256 internal immutable MIN_OF_COMMITS;
    uint256 internal immutable MIN_OF_MEMBERS;
    uint256 internal immutable MAX_SILENT_SHARE;
    uint256 internal immutable SHARE_CAP;
    uint256 internal immutable VOTE_SHARE;
    uint32 internal immutable MIN_COMMIT_WINDOW;

    /// @dev Checks and fixes the rules; see {AggregationLedger-constructor}.
    constructor(Rules memory rules_) {
        if (rules_.federationId == bytes32(0)) revert InvalidArgument("federationId");
        if (rules_.initialModel == bytes32(0)) revert InvalidArgument("initialModel");
        if (
            Math.max(
                Math.max(rules_.minAcceptedOfCommits, rules_.minAcceptedOfMembers),
                Math.max(rules_.shareCap, rules_.voteShare)
            ) > BASIS || rules_.maxSilentShare >= BASIS || rules_.minCommitWindow > MAX_WINDOW
        ) revert InvalidArgument("rules");
        FEDERATION_ID = rules_.federationId;
        INITIAL_MODEL = rules_.initialModel;
        PRIVACY_UNIT = rules_.privacyUnit;
        MIN_OF_COMMITS = rules_.minAcceptedOfCommits;
        MIN_OF_MEMBERS = rules_.minAcceptedOfMembers;
        MAX_SILENT_SHARE = rules_.maxSilentShare;
        SHARE_CAP = rules_.shareCap;
        VOTE_SHARE = rules_.voteShare;
        MIN_COMMIT_WINDOW = rules_.minCommitWindow;
    }

    /// @inheritdoc IAggregationLedger
    function rules() external view returns (Rules memory) {
        return Rules({
            federationId: FEDERATION_ID,
            initialModel: INITIAL_MODEL,
            privacyUnit: PRIVACY_UNIT,
            minAcceptedOfCommits: uint16(MIN_OF_COMMITS),
            minAcceptedOfMembers: uint16(MIN_OF_MEMBERS),
            maxSilentShare: uint16(MAX_SILENT_SHARE),
            shareCap: uint16(SHARE_CAP),
            voteShare: uint16(VOTE_SHARE),
            minCommitWindow: MIN_COMMIT_WINDOW
        });
    }
}
