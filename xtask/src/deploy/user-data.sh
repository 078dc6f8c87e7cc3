#!/bin/bash
# Makes this machine a server of the deployment @DEPLOYMENT@ of crucial. Runs once, when the machine starts for the first
# time; it has no secrets, since whoever may describe instances can read it.
set -euo pipefail

# The volume comes some time after the machine.
device=/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_@VOLUME@
for _ in {1..300}; do
    [[ -b "$device" ]] && break
    sleep 1
done
# Only an empty volume is formatted: `blkid` finds nothing on it, and `mkfs.xfs` itself overwrites nothing that it knows.
blkid --probe "$device" >/dev/null || mkfs.xfs -q "$device"
mkdir -p /var/lib/crucial
echo "$device /var/lib/crucial xfs defaults,nofail,x-systemd.device-timeout=300 0 2" >>/etc/fstab
systemctl daemon-reload
mount /var/lib/crucial

id crucial &>/dev/null || useradd --system --home-dir /opt/crucial crucial
install -d -o crucial -g crucial -m 0700 /opt/crucial /var/lib/crucial/data

# Gets what the bucket says, and checks it. The program that runs is kept if it is still the right one.
cat >/opt/crucial/fetch <<'FETCH'
#!/bin/bash
set -euo pipefail
umask 077
cd /opt/crucial
get() {
    aws s3 cp --only-show-errors --region @REGION@ "s3://@BUCKET@/$1" "$2"
}
get nodes/@SERVER@ node.new
get token token
. ./node.new
if [[ ! -x "app-$BINARY" ]]; then
    get "binaries/$BINARY" app.new
    echo "$BINARY  app.new" | sha256sum --check --quiet
    chmod 0700 app.new
    rm -f app-*
    mv app.new "app-$BINARY"
fi
mv node.new node
FETCH

cat >/opt/crucial/run <<'RUN'
#!/bin/bash
set -euo pipefail
. /opt/crucial/node
exec "/opt/crucial/app-$BINARY" crucial serve --listen 0.0.0.0:@PORT@ --advertise "$ADVERTISE" \
    --data-dir /var/lib/crucial/data ${JOIN:+--join "$JOIN"}
RUN
chown crucial: /opt/crucial/fetch /opt/crucial/run
chmod 0700 /opt/crucial/fetch /opt/crucial/run

cat >/etc/systemd/system/crucial.service <<'UNIT'
[Unit]
Description=Server @SERVER@ of the deployment @DEPLOYMENT@ of crucial
Wants=network-online.target
After=network-online.target
RequiresMountsFor=/var/lib/crucial
StartLimitIntervalSec=0

[Service]
User=crucial
Environment=CRUCIAL_TOKEN_FILE=/opt/crucial/token
ExecStartPre=/opt/crucial/fetch
ExecStart=/opt/crucial/run
Restart=on-failure
RestartSec=2
TimeoutStartSec=300
TimeoutStopSec=90
LimitNOFILE=1048576

[Install]
WantedBy=multi-user.target
UNIT
systemctl daemon-reload
systemctl enable --now --no-block crucial.service
