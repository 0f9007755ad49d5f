"""Facts of instances that never change, kept between runs in the function's memory."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gpu_fleet.scaling.observation import Phase
from lambdas.scaler.batches import batches

if TYPE_CHECKING:
    from types_boto3_ec2 import EC2Client

IDS_PER_CALL = 200
"""Values of one filter: https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DescribeInstances.html"""


@dataclass(frozen=True, slots=True)
class Facts:
    """The facts of one instance."""

    launched_at: float
    """Seconds since the epoch."""
    spot: bool


class InstanceBook:
    """Facts of the instances seen, and when each became ready.

    Auto Scaling's answers have neither the launch time nor whether an instance is spot, so the book asks EC2 once for
    each instance instead of each minute. It is only a cache: a new execution environment starts with an empty book,
    asks EC2 again, and does not know when instances that are already ready became so.
    """

    def __init__(self) -> None:
        self._facts: dict[str, Facts] = {}
        self._not_ready: set[str] = set()
        self._ready_at: dict[str, float] = {}

    def learn(self, ec2: EC2Client, ids: Collection[str]) -> None:
        """Ask EC2 for the instances that are not in the book. One that EC2 does not know yet stays unknown.

        Raises botocore's errors, and then keeps what it has learned.
        """
        unknown = sorted(set(ids) - self._facts.keys())
        for batch in batches(unknown, IDS_PER_CALL):
            # By filter: with InstanceIds, one id that is gone would fail the whole call.
            pages = ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": "instance-id", "Values": batch}])
            for page in pages:
                for reservation in page["Reservations"]:
                    for instance in reservation.get("Instances", []):
                        self._facts[instance.get("InstanceId", "")] = Facts(
                            instance["LaunchTime"].timestamp(),  # type: ignore[typeddict-item]
                            spot=instance.get("InstanceLifecycle") == "spot",
                        )

    def forget_all_but(self, ids: Collection[str]) -> None:
        """Forget all other instances, so that the book is as small as the fleet."""
        self._facts = {id_: facts for id_, facts in self._facts.items() if id_ in ids}
        self._ready_at = {id_: at for id_, at in self._ready_at.items() if id_ in ids}
        self._not_ready &= set(ids)

    def facts(self, id_: str) -> Facts | None:
        """Return the instance's facts; None if it is not in the book."""
        return self._facts.get(id_)

    def ready_at(self, id_: str, phase: Phase, now: float) -> float | None:
        """Note the instance's phase, and return when it became ready, at most one run late.

        None unless this book has seen it both before and after.
        """
        match phase:
            case Phase.STARTING:
                self._not_ready.add(id_)
            case Phase.READY if id_ in self._not_ready:
                self._not_ready.discard(id_)
                self._ready_at[id_] = now
            case _:
                pass
        return self._ready_at.get(id_)
