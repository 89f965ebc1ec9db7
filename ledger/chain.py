"""The chain adapter: one federation's contract, read and written through any Ethereum node.

The same class works on the in-process chain of the unit tests, the managed anvil node and an
external network. Accounts sign here, never at the node; a revert becomes the `ContractError` of
the contract's own name, and a node that is down becomes `LedgerUnavailable`.
"""

from __future__ import annotations

from eth_account.signers.local import LocalAccount
from eth_utils.address import to_checksum_address
from web3 import Web3

from contracts.artefact import load_artefact
from ledger.anchors import Anchors
from ledger.chain_errors import RevertDecoder
from ledger.chain_rpc import Patience, Transport
from ledger.chain_sends import TransactionSender
from ledger.chain_writes import LedgerWriter
from ledger.errors import LedgerError, WrongLedger
from ledger.statement import Rules
from ledger.txlog import ChainNode, TransactionLog


class Ledger(LedgerWriter):
    """One federation's ledger: reads as in `LedgerReader`, sends as in `LedgerWriter`."""

    # ---- where from ----

    @classmethod
    def deploy(
        cls,
        web3: Web3,
        account: LocalAccount,
        rules: Rules,
        founders: list[str] | tuple[str, ...],
        *,
        coordinator: str | None = None,
        confirmations: int = 0,
        journal: TransactionLog | None = None,
        patience: Patience | None = None,
    ) -> Ledger:
        """Deploy a new federation and return its ledger.

        Args:
            web3: the node.
            account: pays and signs; also the coordinator unless another is named.
            rules: fixed for ever.
            founders: the founding hospitals' addresses, in seat order.
            coordinator: EIP-55 address.
            confirmations: as for the ledger.
            journal: as for the ledger.
            patience: deadlines.

        Raises:
            ContractError: the contract refuses the rules or the founders.
        """
        artefact = load_artefact()
        transport = Transport(web3, patience or Patience())
        leader = coordinator or account.address
        factory = web3.eth.contract(abi=list(artefact.abi), bytecode=artefact.bytecode)
        data = factory.constructor(rules.abi(), leader, list(founders)).data_in_transaction
        chain_id = int(transport.read("for its chain id", lambda: web3.eth.chain_id))
        sender = TransactionSender(
            transport,
            RevertDecoder(artefact.abi),
            chain_id=chain_id,
            confirmations=confirmations,
            journal=journal,
        )
        receipt, found = sender.send(account, bytes.fromhex(str(data)[2:]), None)
        contract = found["contractAddress"]
        if contract is None:
            raise LedgerError("the node's receipt names no contract for the deployment")
        anchors = Anchors(
            chain_id=chain_id,
            contract=to_checksum_address(contract),
            federation_id=rules.federation_id,
            genesis_hash=_genesis_hash(transport),
            coordinator=leader,
            founders=tuple(founders),
        )
        return cls(
            web3,
            anchors,
            confirmations,
            journal=journal,
            patience=patience,
            first_block=receipt.block,
        )

    @classmethod
    def attach(
        cls,
        web3: Web3,
        anchors: Anchors,
        confirmations: int = 0,
        *,
        journal: TransactionLog | None = None,
        patience: Patience | None = None,
        first_block: int = 0,
    ) -> Ledger:
        """Return the ledger of a federation that is already deployed, after checking it.

        Raises:
            WrongLedger: chain id, genesis block, bytecode, federation, coordinator or founders
                are not those of the anchors.
            Unconfirmed: the deployment is not under enough confirmations.
            LedgerUnavailable: the node cannot be reached.
        """
        ledger = cls(
            web3,
            anchors,
            confirmations,
            journal=journal,
            patience=patience,
            first_block=first_block,
        )
        ledger.check_anchors()
        return ledger

    def check_anchors(self) -> None:
        """Compare the chain with the anchors (see `attach` for what it raises)."""
        read, anchors = self._transport.read, self.anchors
        chain_id = read("for its chain id", lambda: self.web3.eth.chain_id)
        _same("chain id", anchors.chain_id, chain_id)
        _same("genesis block", anchors.genesis_hash, _genesis_hash(self._transport))
        address, height = self._contract.address, self.height()
        code = read("for code", lambda: self.web3.eth.get_code(address, height))
        if not code:
            raise self._absent()
        if not load_artefact().matches(bytes(code)):
            raise WrongLedger(f"the code at {address} is not that of the reviewed contract")
        _same("federation", anchors.federation_id, self.rules().federation_id)
        deployed = next((e for e in self.events() if e.name == "Deployed"), None)
        if deployed is None:
            raise WrongLedger(f"the contract at {address} has no deployment on record")
        _same("first coordinator", anchors.coordinator, deployed.args["coordinator"])
        _same("founders", anchors.founders, deployed.args["founders"])

    def recover(self) -> int:
        """Send again what the journal holds and the chain does not know; return how many.

        Call it once after a crash, before the next send: the nonces then go on where they ended.

        Raises:
            JournalCorrupt: the chain holds something else than was journalled.
        """
        if self._journal is None:
            return 0
        journal, node = self._journal, ChainNode(self.web3)
        return self._transport.ask("the journal's transactions", lambda: journal.replay(node))


def _genesis_hash(transport: Transport) -> bytes:
    found = transport.read("for block 0", lambda: transport.web3.eth.get_block(0))
    return bytes(found["hash"])


def _same(what: str, expected: object, found: object) -> None:
    if expected != found:
        raise WrongLedger(f"the {what} is {_shown(found)}, not {_shown(expected)} of the anchors")


def _shown(value: object) -> object:
    return f"0x{value.hex()}" if isinstance(value, bytes) else value
