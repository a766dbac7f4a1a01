"""The settings' retention rules as the policy that decides."""

from collections.abc import Sequence

from archiver.ledger.values_retention import KnownHold
from archiver.proof.retention.decide import Policy
from archiver.proof.retention.rules import Keep, Rule
from archiver.settings import Settings


def policy_of(settings: Settings, holds: Sequence[KnownHold]) -> Policy:
    """The settings' rules, and the holds that are active."""
    rules = tuple(
        Rule(rule.name, Keep(rule.months, rule.days), rule.account_ids, rule.direction, rule.users)
        for rule in settings.retention.rules
    )
    return Policy(rules, tuple(each.hold for each in holds if each.hold.is_active), settings.archive.zone)
