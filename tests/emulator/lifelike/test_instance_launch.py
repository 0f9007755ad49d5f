from __future__ import annotations

from typing import Any


def test_an_instance_has_all_settings_of_its_launch_template(desk: Any) -> None:
    groups = [desk.ec2.create_security_group(GroupName="g", Description="g", VpcId=desk.vpc)["GroupId"]]
    template = desk.make_template(
        "full",
        ImageId="resolve:ssm:/aws/service/deeplearning/ami/x86_64/base/latest/ami-id",
        MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        NetworkInterfaces=[{"DeviceIndex": 0, "AssociatePublicIpAddress": False, "Groups": groups}],
        BlockDeviceMappings=[
            {"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 200, "VolumeType": "gp3", "Encrypted": True}}
        ],
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "of", "Value": "template"}]}],
    )
    desk.make_group(
        "plain",
        MixedInstancesPolicy={
            "LaunchTemplate": {"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"}}
        },
        DesiredCapacity=1,
    )
    desk.pass_time(200)
    instance_id = desk.instances("plain")[0]["InstanceId"]
    found = desk.ec2.describe_instances(InstanceIds=[instance_id])["Reservations"][0]["Instances"][0]
    assert found["ImageId"].startswith("ami-")
    assert found["InstanceType"] == "g6.xlarge"
    assert found["MetadataOptions"]["HttpTokens"] == "required"
    assert found["MetadataOptions"]["HttpPutResponseHopLimit"] == 2
    assert [g["GroupId"] for g in found["SecurityGroups"]] == groups
    assert "PublicIpAddress" not in found
    tags = {t["Key"]: t["Value"] for t in found["Tags"]}
    assert tags["of"] == "template"
    assert tags["aws:autoscaling:groupName"] == "plain"
    volumes = desk.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [instance_id]}])[
        "Volumes"
    ]
    assert [(v["Size"], v["VolumeType"], v["Encrypted"]) for v in volumes] == [(200, "gp3", True)]
