"""Heavy imports that the fork server of :mod:`client.isolate` does once for all its children."""

import dp_accounting.rdp  # noqa: F401 - ledger.epsilon asks for it in every private call

import client.learners.cnn
import client.learners.vit
import client.serve  # noqa: F401 - brings torch, timm, web3 and the hospital
