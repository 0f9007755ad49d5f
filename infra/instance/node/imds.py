"""Instance metadata, with a session token: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html."""

import calendar
import json
import time
import urllib.error
import urllib.request

from .journal import say
from .node_settings import IMDS_URL, POLL_SECONDS


def _get(url, headers, method="GET"):
    request = urllib.request.Request(url, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=5) as answer:
        return answer.read().decode()


def read(path, category="meta-data"):
    """Return a value; empty if there is none. Raises OSError if the service does not answer."""
    token = _get(IMDS_URL + "/latest/api/token", {"X-aws-ec2-metadata-token-ttl-seconds": "300"}, "PUT")
    try:
        return _get(IMDS_URL + "/latest/%s/%s" % (category, path), {"X-aws-ec2-metadata-token": token})
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return ""
        raise


def leaving():
    """Return whether the group ends this instance; None if the service does not answer."""
    try:
        return read("autoscaling/target-lifecycle-state") == "Terminated"
    except OSError:
        return None


def launched_at():
    """Return when EC2 launched the instance, seconds since the epoch; None where it is not told.

    `pendingTime`: https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-identity-documents.html
    """
    try:
        pending = json.loads(read("instance-identity/document", "dynamic"))["pendingTime"]
        return calendar.timegm(time.strptime(pending, "%Y-%m-%dT%H:%M:%SZ"))
    except (OSError, ValueError, KeyError):
        return None


def identity():
    """Return the names of the group and of the instance. The group's tag appears some seconds after the launch."""
    while True:
        try:
            group, instance = read("tags/instance/aws:autoscaling:groupName"), read("instance-id")
        except OSError as error:
            say(failed="instance metadata", error=str(error))
        else:
            if group and instance:
                return group, instance
        time.sleep(POLL_SECONDS)
