# Part of boot.sh for a service whose weights are copied from S3. The unit runs beside the pull of the image.
cat > /etc/gpu-fleet/aws.config <<'GPU_FLEET_END'
[default]
region = @REGION@
s3 =
  max_concurrent_requests = 64
  preferred_transfer_client = crt
GPU_FLEET_END
# The settings of `aws s3`: https://docs.aws.amazon.com/cli/latest/topic/s3-config.html
cat > /opt/gpu-fleet/weights.sh <<'GPU_FLEET_END'
#!/bin/bash
set -euo pipefail
install -d /opt/models/weights
for pause in 5 10 20 40 80 0; do
  if aws s3 sync --only-show-errors --delete @WEIGHTS_URI@ /opt/models/weights; then
    if [ -n "$(ls -A /opt/models/weights)" ]; then exit 0; fi
    echo "there are no weights at "@WEIGHTS_URI@
    exit 1
  fi
  sleep "$pause"
done
exit 1
GPU_FLEET_END
cat > /etc/systemd/system/gpu-fleet-weights.service <<'GPU_FLEET_END'
[Unit]
After=gpu-fleet-disk.service network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
Environment=AWS_CONFIG_FILE=/etc/gpu-fleet/aws.config
ExecStart=/opt/gpu-fleet/weights.sh
TimeoutStartSec=3600
GPU_FLEET_END
