"""What is learnt of an instance once and never changes, kept between runs in the function's memory."""

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
    """Of one instance."""

    launched_at: float
    """Seconds since the epoch."""
    spot: bool


class InstanceBook:
    """Facts of the instances seen, and when each became ready.

    Only a help: a new execution environment starts with an empty book, asks EC2 again, and does not know when
    instances that are ready already became so. Spot or not, and the time of launch, stand in no answer of Auto
    Scaling, and EC2 is asked for each instance once, not once a minute.
    """

    def __init__(self) -> None:
        self._facts: dict[str, Facts] = {}
        self._not_ready: set[str] = set()
        self._ready_at: dict[str, float] = {}

    def learn(self, ec2: EC2Client, ids: Collection[str]) -> None:
        """Ask EC2 for the instances not yet known. One that EC2 does not know (yet) stays unknown.

        Raises botocore's errors; what was learnt before stays.
        """
        unknown = sorted(set(ids) - self._facts.keys())
        for part in batches(unknown, IDS_PER_CALL):
            # By filter: an id that is gone would fail the whole call.
            pages = ec2.get_paginator("describe_instances").paginate(Filters=[{"Name": "instance-id", "Values": part}])
            for page in pages:
                for reservation in page["Reservations"]:
                    for instance in reservation.get("Instances", []):
                        self._facts[instance.get("InstanceId", "")] = Facts(
                            instance["LaunchTime"].timestamp(),  # type: ignore[typeddict-item]
                            spot=instance.get("InstanceLifecycle") == "spot",
                        )

    def forget_all_but(self, ids: Collection[str]) -> None:
        """Keep the book as small as the fleet."""
        self._facts = {id_: facts for id_, facts in self._facts.items() if id_ in ids}
        self._ready_at = {id_: at for id_, at in self._ready_at.items() if id_ in ids}
        self._not_ready &= set(ids)

    def facts(self, id_: str) -> Facts | None:
        """What is known of the instance."""
        return self._facts.get(id_)

    def ready_at(self, id_: str, phase: Phase, now: float) -> float | None:
        """When the instance became ready, if this book saw it both before and after; late by one run at most."""
        match phase:
            case Phase.STARTING:
                self._not_ready.add(id_)
            case Phase.READY if id_ in self._not_ready:
                self._not_ready.discard(id_)
                self._ready_at[id_] = now
            case _:
                pass
        return self._ready_at.get(id_)
