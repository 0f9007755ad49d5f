"""What runs on an instance beside the serving container, with only Python's standard library (3.9 and later).

    python3 -m node metrics          sends the engine's metrics, as gauges, to the CloudWatch agent
    python3 -m node lifecycle        brings the instance into service, watches it, and drains it at its end
    python3 -m node abandon REASON   gives the launch up, so that the group replaces the instance

Settings are environment variables, from /etc/gpu-fleet/node.env. The boot script puts this folder at /opt/gpu-fleet.
"""
