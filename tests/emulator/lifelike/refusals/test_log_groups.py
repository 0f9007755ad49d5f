from __future__ import annotations

from typing import Any


def test_retention_is_one_of_the_valid_numbers_of_days(account: Any, refused: Any) -> None:
    account.logs.create_log_group(logGroupName="/one")
    with refused("InvalidParameterException", "retentionInDays"):
        account.logs.put_retention_policy(logGroupName="/one", retentionInDays=2)
    account.logs.put_retention_policy(logGroupName="/one", retentionInDays=3)


def test_a_deleted_groups_tags_do_not_come_back(account: Any) -> None:
    account.logs.create_log_group(logGroupName="/one", tags={"a": "b"})
    account.logs.delete_log_group(logGroupName="/one")
    account.logs.create_log_group(logGroupName="/one")
    assert account.logs.list_tags_log_group(logGroupName="/one")["tags"] == {}


def test_a_log_groups_name_is_unique(account: Any, refused: Any) -> None:
    account.logs.create_log_group(logGroupName="/one")
    with refused("ResourceAlreadyExistsException"):
        account.logs.create_log_group(logGroupName="/one")
