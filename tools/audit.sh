#!/bin/bash
# Looks up every pinned dependency among published weaknesses. Status 0 only if all were looked up and none has any.
set -u
cd "$(dirname "$0")/.."
audit=${PIP_AUDIT:-.venv/audit/bin/pip-audit}

if [ ! -x "$audit" ]; then
    if ! .venv/bin/python -m venv .venv/audit || ! .venv/audit/bin/pip install --quiet pip-audit; then
        echo "error: pip-audit cannot be installed; make audit needs the network" >&2
        exit 1
    fi
fi
# Without --strict what the service does not know is skipped, and a service that knows nothing
# would look like a clean bill of health.
said=$("$audit" --strict --requirement constraints.txt --no-deps --disable-pip 2>&1)
status=$?
case $said in
*"could not be audited"* | *ConnectionError* | *ConnectTimeout* | *ServiceError*)
    echo "error: not audited, the service with the published weaknesses did not respond: ${said##*$'\n'}" >&2
    exit 1
    ;;
esac
echo "$said"
exit $status
