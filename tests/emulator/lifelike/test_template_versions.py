from __future__ import annotations

import base64
from typing import Any


def test_a_later_version_with_user_data_is_launched(desk: Any) -> None:
    desk.make_group(DesiredCapacity=1)
    desk.pass_time(200)
    script = base64.b64encode(b"second").decode()
    desk.ec2.create_launch_template_version(
        LaunchTemplateId=desk.template, SourceVersion="1", LaunchTemplateData={"UserData": script}
    )
    desk.scale(2)
    desk.pass_time(200)
    versions = sorted(i["LaunchTemplate"]["Version"] for i in desk.instances())
    assert versions == ["1", "2"]
    newest = next(i["InstanceId"] for i in desk.instances() if i["LaunchTemplate"]["Version"] == "2")
    user_data = desk.ec2.describe_instance_attribute(InstanceId=newest, Attribute="userData")["UserData"]["Value"]
    assert base64.b64decode(user_data) == b"second"


def test_a_version_inherits_what_it_does_not_specify(desk: Any) -> None:
    desk.ec2.create_launch_template_version(
        LaunchTemplateId=desk.template, SourceVersion="1", LaunchTemplateData={"InstanceType": "g6e.xlarge"}
    )
    versions = desk.ec2.describe_launch_template_versions(LaunchTemplateId=desk.template, Versions=["2"])
    data = versions["LaunchTemplateVersions"][0]["LaunchTemplateData"]
    assert (data["InstanceType"], data["ImageId"]) == ("g6e.xlarge", "ami-12c6146b")
