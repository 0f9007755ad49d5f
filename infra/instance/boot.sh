#!/bin/bash
# Runs at the first boot of an instance. infra/user_data.py replaces @NAMES@, each quoted for its place.
set -euo pipefail
exec > >(tee -a /var/log/gpu-fleet-boot.log) 2>&1

install -d -m 0755 /etc/gpu-fleet /opt/gpu-fleet/node /var/lib/gpu-fleet

# A phase of the boot ended when its file was touched (node/boot_phases.py): the first with the kernel's start.
touch -d "@$(awk '/^btime/ {print $2}' /proc/stat)" /var/lib/gpu-fleet/running

@NODE@

cat > /etc/gpu-fleet/agent.json <<'GPU_FLEET_END'
@AGENT@
GPU_FLEET_END

cat > /etc/gpu-fleet/node.env <<'GPU_FLEET_END'
@NODE_ENVIRONMENT@
GPU_FLEET_END

# A boot that fails is given up at once: the group launches another instance, and the log group has the reason.
why=
at_exit() {
  if [ "$1" -ne 0 ]; then
    echo "boot failed: ${why:=$2}"
    while IFS= read -r line; do export "${line?}"; done < /etc/gpu-fleet/node.env
    PYTHONPATH=/opt/gpu-fleet python3 -m node abandon "boot: $why"
  fi
}
trap 'at_exit "$?" "failed: $BASH_COMMAND"' EXIT
give_up() {
  why=$1
  exit 1
}

install -m 0600 /dev/null /etc/gpu-fleet/container.env
cat > /etc/gpu-fleet/container.env <<'GPU_FLEET_END'
@CONTAINER_ENVIRONMENT@
GPU_FLEET_END

# Secrets are read at boot; user data never contains them. An engine without its secret would start: without a key it
# serves everybody, without a token it cannot load its model.
add_secret() {
  local value pause
  for pause in 2 4 8 16 32 64 0; do
    if value=$(aws secretsmanager get-secret-value --region @REGION@ --secret-id "$2" --query SecretString --output text); then
      case "$value" in
        "" | None) give_up "secret $2 for $1 has no text" ;;
        *$'\n'*) give_up "secret $2 for $1 has several lines, which Docker's file of variables cannot hold" ;;
      esac
      printf '%s=%s\n' "$1" "$value" >> /etc/gpu-fleet/container.env
      return
    fi
    sleep "$pause"
  done
  give_up "secret $2 for $1 cannot be read"
}
@SECRETS@

# Serving matters more than metrics: without the agent the boot goes on, and alarms report the missing data.
start_agent() {
  local bin=/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl
  if [ ! -x $bin ] && command -v dnf > /dev/null; then
    dnf install -y amazon-cloudwatch-agent
  elif [ ! -x $bin ]; then
    curl -fsSL --retry 5 -o /tmp/agent.deb \
      https://amazoncloudwatch-agent-@REGION@.s3.@REGION@.amazonaws.com/ubuntu/amd64/latest/amazon-cloudwatch-agent.deb &&
      dpkg -i -E /tmp/agent.deb
  fi
  $bin -a fetch-config -m ec2 -s -c file:/etc/gpu-fleet/agent.json
}
start_agent || echo "no CloudWatch agent"
touch /var/lib/gpu-fleet/agent

cat > /opt/gpu-fleet/disk.sh <<'GPU_FLEET_END'
@DISK@
GPU_FLEET_END

cat > /opt/gpu-fleet/pull.sh <<'GPU_FLEET_END'
#!/bin/bash
set -euo pipefail
registry=@REGISTRY@
pull() {
  if [ -n "$registry" ]; then
    aws ecr get-login-password --region "$(echo "$registry" | cut -d. -f4)" |
      docker login --username AWS --password-stdin "$registry" || return 1
  fi
  docker pull @IMAGE@
}
# If the registry is unreachable, use a local image, or try again: some registries limit pulls for minutes.
for pause in 5 10 20 40 80 0; do
  if pull || docker image inspect @IMAGE@ > /dev/null; then
    [ -e /var/lib/gpu-fleet/image ] || touch /var/lib/gpu-fleet/image
    exit 0
  fi
  sleep "$pause"
done
exit 1
GPU_FLEET_END

@WEIGHTS@

# The container has its own network: with a hop limit of 1 the metadata token for the instance's role does not cross the
# bridge. The kernel forwards the load balancer's connections with their source addresses, without a proxy.
# /opt/compiled: a container that starts again finds what torch.compile made:
# https://docs.vllm.ai/en/latest/design/torch_compile.html#compilation-cache
# --ipc host: vLLM's processes share memory, https://docs.vllm.ai/en/latest/deployment/docker.html
# mode=non-blocking: a log service that is slow or away would otherwise block the engine at its next line; lines beyond
# the buffer are lost. https://docs.docker.com/engine/logging/configure/#configure-the-delivery-mode-of-log-messages
cat > /opt/gpu-fleet/serve.sh <<'GPU_FLEET_END'
#!/bin/bash
set -euo pipefail
docker rm --force engine > /dev/null 2>&1 || true
exec docker run --name engine --gpus all --publish @PORT@:@PORT@ @PUBLISH_METRICS@--ipc host --env-file /etc/gpu-fleet/container.env \
  --volume /opt/models:/root/.cache/huggingface --stop-timeout @STOP_SECONDS@ \
  @MOUNT_WEIGHTS@--volume /opt/compiled:/root/.cache/vllm \
  --log-driver awslogs --log-opt awslogs-region=@REGION@ --log-opt awslogs-group=@LOG_GROUP@ \
  --log-opt mode=non-blocking --log-opt max-buffer-size=16m --stop-signal SIGTERM \
  @IMAGE@ @ARGS@
GPU_FLEET_END
chmod 0755 /opt/gpu-fleet/*.sh

unit() {
  cat > "/etc/systemd/system/$1.service"
}
unit gpu-fleet-disk <<'GPU_FLEET_END'
[Unit]
After=local-fs.target dlami-nvme.service
Before=docker.service containerd.service
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/opt/gpu-fleet/disk.sh @DISK_USE@
[Install]
WantedBy=multi-user.target
GPU_FLEET_END
unit engine <<'GPU_FLEET_END'
[Unit]
After=docker.service network-online.target
Requires=docker.service
@WANT_WEIGHTS@[Service]
ExecStartPre=/opt/gpu-fleet/pull.sh
@AWAIT_WEIGHTS@ExecStart=/opt/gpu-fleet/serve.sh
ExecStop=/usr/bin/docker stop engine
Restart=always
RestartSec=5
TimeoutStartSec=3600
TimeoutStopSec=@UNIT_STOP_SECONDS@
[Install]
WantedBy=multi-user.target
GPU_FLEET_END
for name in metrics lifecycle; do
  unit "gpu-fleet-$name" <<GPU_FLEET_END
[Service]
EnvironmentFile=/etc/gpu-fleet/node.env
Environment=PYTHONPATH=/opt/gpu-fleet
ExecStart=/usr/bin/python3 -m node $name
Restart=on-failure
RestartSec=5
[Install]
WantedBy=multi-user.target
GPU_FLEET_END
done
# This script runs at the first boot only; the units also start after a reboot.
systemctl daemon-reload
systemctl enable gpu-fleet-disk engine gpu-fleet-metrics gpu-fleet-lifecycle
# Docker runs already, and starts again with the engine.
disk_use=@DISK_USE@
if [ "$disk_use" = store ]; then systemctl stop docker.socket docker.service containerd.service || true; fi
systemctl start gpu-fleet-disk
systemctl start --no-block engine gpu-fleet-metrics gpu-fleet-lifecycle
