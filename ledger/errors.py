"""Every error Thoracle raises on purpose, in one tree.

Each carries one clear sentence. The command line prints that sentence and exits non-zero; a
refusal or a dissent travels to the chain as the class's ``code``, so a code is never reused
or renumbered. Errors that the contract can raise carry the contract's own name for them.

    ThoracleError
    ├── InputError                   what the user gave cannot be used (nothing was changed)
    │   ├── ConfigError              a setting, flag or configuration file
    │   ├── DataError                a radiograph, label table or folder
    │   └── OutputError              where results were to be written
    │       └── StorageFull · StorageReadOnly
    ├── CodecError                   bytes that are not an update of this model
    │   ├── MalformedUpdate · OversizeUpdate · SpecMismatch · NonCanonicalUpdate
    │   └── NonFiniteUpdate · InvalidStatement
    ├── SealingError                    keys and sealing
    │   └── SealBroken · BadKey · StaleKey · InsecureKeyFile · KeyLocked
    ├── Refusal                      the server's admission checks (each has a code)
    │   ├── CommitMissing · DigestMismatch · OpeningMismatch · WrongRound · WrongBaseModel
    │   ├── WrongDomain · DuplicateUpdate · InertUpdate · NormExceeded · OutlierUpdate
    │   └── PrivacyPolicyViolation · WeakNoise · UndeclaredOutput · NothingReceived
    ├── ContractError                the contract reverted (names and arguments are Solidity's)
    │   ├── NotMember · MemberRevoked · AlreadyMember · AlreadyRegistered · AlreadyCommitted
    │   ├── AlreadyAnswered · AlreadyVoted · CommitWindowClosed · CommitWindowOpen
    │   ├── HeadMismatch · BudgetExceeded · BudgetNotCharged · CapMayOnlyFall · RoundLive
    │   ├── NotCoordinator · TooFewAccepted · CommitUnaccounted · ParentMismatch · WrongPhase
    │   ├── NotAccepted · NotRefused · AttestationsMissing · RoundClosed · RoundFinalisable
    │   ├── AttestWindowClosed
    │   └── VotesMissing · NormCapExceeded · WeightOverflow · InvalidArgument · DeadlineNotPassed
    ├── SumError                     what a hospital finds wrong with a proposal (each has a code)
    │   └── SumMismatch · SumOutOfRange · ProbeMismatch · ModelDigestMismatch · StandingMismatch
    ├── LedgerError                  the chain, as seen by one party
    │   ├── Unconfirmed · LedgerRollback · WrongLedger · LedgerUnavailable · ClockSkew
    │   └── TransactionStuck
    ├── TrustError                   a hospital protecting itself
    │   └── ModelNotFinal · StaleModel · PolicyViolation · PolicyError · DataMismatch
    ├── PrivacyError                 the hospital's privacy guard
    │   ├── BudgetExhausted · AccountantRollback · UnsupportedModule · CohortTooSmall
    │   └── CoupledSamples · NonFiniteGradient
    ├── StoreError                   durable state and evidence
    │   └── EvidenceMismatch · EvidenceMissing · EvidenceErased · RunBusy · JournalCorrupt
    ├── AuditError                   what an auditor finds
    │   └── EventMismatch · BundleInvalid · OriginUnproven
    └── HospitalFailed               a hospital that raised, died, hung or answered nothing
"""

from __future__ import annotations

from typing import ClassVar


class ThoracleError(Exception):
    """Base of every deliberate error; ``str(error)`` is one sentence for a person."""

    code: ClassVar[int] = 0
    """Stable number on the chain (0: this error never goes there)."""

    @property
    def name(self) -> str:
        """The class's name: what logs, reports and the attack table call it."""
        return type(self).__name__


class InputError(ThoracleError):
    """What the user gave cannot be used."""


class ConfigError(InputError):
    """A setting, flag or configuration file is wrong."""


class DataError(InputError):
    """A radiograph, label table or data folder is wrong."""


class OutputError(InputError):
    """Results cannot be written where they were asked for."""


class StorageFull(OutputError):
    """The disk (or a quota) is full; nothing was half written."""


class StorageReadOnly(OutputError):
    """The folder cannot be written: mounted read-only, or not this user's."""


class CodecError(ThoracleError):
    """Bytes that are not a canonical update of the expected model."""


class MalformedUpdate(CodecError):
    """Truncated, padded, or not in the format at all."""

    code = 1


class OversizeUpdate(CodecError):
    """A declared or actual length is over the bound (checked before anything is allocated)."""

    code = 2


class SpecMismatch(CodecError):
    """Tensor names, shapes or dtypes differ from the manifest."""

    code = 3


class NonCanonicalUpdate(CodecError):
    """Decodable, but not the one canonical encoding (or holds the forbidden value -32768)."""

    code = 4


class NonFiniteUpdate(CodecError):
    """A delta holds NaN or infinity; caught at the hospital before quantising."""

    code = 5


class InvalidStatement(CodecError):
    """A field of a statement is outside its range."""


class SealingError(ThoracleError):
    """Keys and sealing."""


class SealBroken(SealingError):
    """A ciphertext does not open under this key and context."""

    code = 10


class BadKey(SealingError):
    """A public key is malformed, of low order, or not the one announced on the chain."""


class StaleKey(SealingError):
    """A key of a retired epoch is used for a new round."""


class InsecureKeyFile(SealingError):
    """A private key file can be read by others."""


class KeyLocked(SealingError):
    """A keystore does not open with this password."""


class Refusal(ThoracleError):
    """The server refuses one hospital's update; the round goes on without it."""


class CommitMissing(Refusal):
    """The hospital has no commit for this round on the chain."""

    code = 20


class DigestMismatch(Refusal):
    """The ciphertext is not the one whose digest was committed."""

    code = 21


class OpeningMismatch(Refusal):
    """The opened update is not the one whose opening digest was committed."""

    code = 22


class WrongRound(Refusal):
    """The update belongs to another round."""

    code = 23


class WrongBaseModel(Refusal):
    """The update was trained from another base model."""

    code = 24


class WrongDomain(Refusal):
    """The update belongs to another federation, chain or contract."""

    code = 25


class DuplicateUpdate(Refusal):
    """A second update of one hospital in a round, or one that is also another hospital's."""

    code = 26


class InertUpdate(Refusal):
    """The update changes (almost) nothing: a free rider."""

    code = 27


class NormExceeded(Refusal):
    """The update's L2 norm is over the round's bound."""

    code = 28


class OutlierUpdate(Refusal):
    """The update points away from the others by the documented robust rule."""

    code = 29


class PrivacyPolicyViolation(Refusal):
    """The committed mechanism is weaker than the federation's policy."""

    code = 30


class WeakNoise(Refusal):
    """The update is far smaller than the noise its mechanism declares."""

    code = 31


class UndeclaredOutput(Refusal):
    """A reply holds a field outside the allow-list."""

    code = 32


class NothingReceived(Refusal):
    """The hospital committed, but its ciphertext never arrived."""

    code = 33


class ContractError(ThoracleError):
    """The contract reverted; ``arguments`` are the Solidity error's."""

    def __init__(self, message: str = "", **arguments: object) -> None:
        super().__init__(message or type(self).__doc__ or type(self).__name__)
        self.arguments = arguments


class NotMember(ContractError):
    """The sender is not an active member of the federation."""


class MemberRevoked(ContractError):
    """The sender's membership was revoked."""


class AlreadyMember(ContractError):
    """The address was enrolled before (a second enrolment must not reset a budget)."""


class AlreadyRegistered(ContractError):
    """The member has already set its cap and weight."""


class AlreadyCommitted(ContractError):
    """The hospital has already committed in this round."""


class AlreadyAnswered(ContractError):
    """The hospital has already attested, dissented or contested in this round."""


class AlreadyVoted(ContractError):
    """The member has already voted on this ballot."""


class CommitWindowClosed(ContractError):
    """The commit window has closed."""


class CommitWindowOpen(ContractError):
    """The commit window is still open."""


class AttestWindowClosed(ContractError):
    """The attest window has closed: what is silent now stays silent."""


class HeadMismatch(ContractError):
    """The ledger's head is another one: the sender saw a different history."""


class BudgetExceeded(ContractError):
    """The cumulative epsilon is over the hospital's cap."""


class BudgetNotCharged(ContractError):
    """The cumulative epsilon did not rise."""


class CapMayOnlyFall(ContractError):
    """A privacy cap may be lowered, never raised."""


class RoundLive(ContractError):
    """A round is live; this may only happen between rounds."""


class NotCoordinator(ContractError):
    """The sender is not the coordinator."""


class TooFewAccepted(ContractError):
    """Fewer updates were accepted than the federation's minimum, in number or in weight."""


class CommitUnaccounted(ContractError):
    """Accepted and refused do not cover every commit exactly once."""


class ParentMismatch(ContractError):
    """The base model is not the last final model."""


class WrongPhase(ContractError):
    """The round is in another phase."""


class NotAccepted(ContractError):
    """Only a hospital accepted in this proposal may attest or dissent."""


class NotRefused(ContractError):
    """Only a hospital refused in this proposal may contest."""


class AttestationsMissing(ContractError):
    """Not every accepted hospital has attested."""


class RoundClosed(ContractError):
    """No round is live."""


class RoundFinalisable(ContractError):
    """The round can be finalised, so it may not be aborted."""


class VotesMissing(ContractError):
    """The ballot has too few votes."""


class NormCapExceeded(ContractError):
    """A hospital's probes show a contribution over the norm cap."""


class WeightOverflow(ContractError):
    """A weight, or the total of the weights, is over its bound."""


class InvalidArgument(ContractError):
    """An argument is outside its range."""


class DeadlineNotPassed(ContractError):
    """A round can be aborted only after its deadline, on a dissent, or by the coordinator."""


class SumError(ThoracleError):
    """What a hospital finds wrong with a proposal; its code goes on chain as a dissent."""


class SumMismatch(SumError):
    """The served sum does not agree with the probes the contract totalled."""

    code = 40


class SumOutOfRange(SumError):
    """A coordinate of the served sum is outside what the weights allow."""

    code = 41


class ProbeMismatch(SumError):
    """The probes recorded for this hospital are not those of its own update."""

    code = 42


class ModelDigestMismatch(SumError):
    """The proposed or served model is not the one the digest names."""

    code = 43


class StandingMismatch(SumError):
    """The proposal misstates this hospital's own standing."""

    code = 44


class LedgerError(ThoracleError):
    """The chain, as one party sees it."""


class Unconfirmed(LedgerError):
    """A record is not yet under enough confirmations."""


class LedgerRollback(LedgerError):
    """The chain is behind, or beside, what this party has already seen."""


class WrongLedger(LedgerError):
    """Another chain, another bytecode or another federation than the anchors name."""


class LedgerUnavailable(LedgerError):
    """The chain cannot be reached; work stops rather than go on unaudited."""


class ClockSkew(LedgerError):
    """The chain's clock and this machine's differ by more than the bound."""


class TransactionStuck(LedgerError):
    """A transaction was not mined within its deadline."""


class TrustError(ThoracleError):
    """A hospital protecting itself from the coordinator."""


class ModelNotFinal(TrustError):
    """The offered base model is not final on the chain."""


class StaleModel(TrustError):
    """The offered base model is older than the last final one."""


class PolicyViolation(TrustError):
    """The coordinator asks for what the hospital's own policy forbids."""


class PolicyError(TrustError):
    """A policy or filter is misconfigured; nothing passes."""


class DataMismatch(TrustError):
    """The round means other findings or preprocessing than this hospital's data have."""


class PrivacyError(ThoracleError):
    """The hospital's privacy guard."""


class BudgetExhausted(PrivacyError):
    """The round would spend more than the hospital's cap."""


class AccountantRollback(PrivacyError):
    """The chain records more spent epsilon than the local accountant knows."""


class UnsupportedModule(PrivacyError):
    """A module couples samples or cannot give per-sample gradients."""


class CohortTooSmall(PrivacyError):
    """Too few patients for the asked sampling rate."""


class CoupledSamples(PrivacyError):
    """A loss couples private samples."""


class NonFiniteGradient(PrivacyError):
    """A per-sample gradient is NaN or infinite; the step is refused."""


class StoreError(ThoracleError):
    """Durable state and evidence."""


class EvidenceMismatch(StoreError):
    """A stored object is not what its name (its digest) says."""


class EvidenceMissing(StoreError):
    """A stored object is not there."""


class EvidenceErased(StoreError):
    """The key to this evidence was destroyed after its retention, as the record says."""


class RunBusy(StoreError):
    """Another process is working on this run."""


class JournalCorrupt(StoreError):
    """A journal cannot be read back."""


class AuditError(ThoracleError):
    """What an auditor finds."""


class EventMismatch(AuditError):
    """The recorded events disagree with the recorded state."""


class BundleInvalid(AuditError):
    """A bundle is damaged or its proofs do not hold."""


class OriginUnproven(AuditError):
    """Consistent, but not of the trust anchors given."""


class HospitalFailed(ThoracleError):
    """A hospital raised, died, hung or answered nothing."""


def _walk(base: type[ThoracleError]) -> dict[int, type[ThoracleError]]:
    found: dict[int, type[ThoracleError]] = {}
    for child in base.__subclasses__():
        if child.code:
            found[child.code] = child
        found.update(_walk(child))
    return found


def by_code(code: int) -> type[ThoracleError]:
    """Return the error class whose on-chain ``code`` this is.

    Raises:
        InvalidStatement: no error has this code.
    """
    try:
        return _walk(ThoracleError)[code]
    except KeyError:
        raise InvalidStatement(f"no error has the code {code}") from None


def by_name(name: str) -> type[ThoracleError] | None:
    """Return the error class of this name, or None; chain reverts are matched with it."""
    found = globals().get(name)
    return found if isinstance(found, type) and issubclass(found, ThoracleError) else None
