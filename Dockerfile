# The image of both roles, `serve` (in pods, and anywhere) and `inject` (the admission webhook): Python, the pinned
# dependencies and sidecar, run by a numeric user that owns nothing in it. Every dependency has wheels for amd64 and arm64.
# No pip, no setuptools, no compiler: what is not there cannot be misused (acceptance G1).

FROM python:3.13-slim AS builder

WORKDIR /build
RUN python -m venv --without-pip /opt/sidecar

# The dependencies first: they change less often than the code. Wheels only, so that no foreign code runs at build time.
COPY requirements.lock requirements-dev.lock ./
# The C compiler is that of the base's release, whichever that is; it stays in this stage.
# hadolint ignore=DL3008
RUN pip --python /opt/sidecar/bin/python install --no-cache-dir --disable-pip-version-check \
        --require-hashes --only-binary :all: --requirement requirements.lock \
    # the build backend and the compiler, at the versions and hashes the lock file has for them; types are checked once more
    && awk '/^[a-z]/ { keep = /^(setuptools|mypy|mypy-extensions|ast-serialize|librt|pathspec|typing-extensions)==/ } keep' \
        requirements-dev.lock > backend.lock \
    && pip install --no-cache-dir --disable-pip-version-check --require-hashes --only-binary :all: \
        --requirement backend.lock --requirement requirements.lock \
    && apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev \
    && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml setup.py README.md ./
COPY conf conf
COPY sidecar sidecar
# The hot path compiled (setup.py): a third of the processor time for a request.
# Byte code whose sources are never looked at again: start-up is a promise (acceptance E3), and the files do not change.
RUN SIDECAR_COMPILE=1 pip wheel --no-cache-dir --disable-pip-version-check --no-deps --no-build-isolation --no-index --wheel-dir dist . \
    && pip --python /opt/sidecar/bin/python install --no-cache-dir --disable-pip-version-check \
        --no-deps --no-index dist/*.whl \
    && python -m compileall -q -f --invalidation-mode unchecked-hash /opt/sidecar/lib


FROM python:3.13-slim

# The base image comes with pip and without byte code of the standard library.
RUN python -m pip uninstall --yes --root-user-action ignore pip \
    && rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/ensurepip /usr/local/lib/python3*/site-packages/* \
    && python -m compileall -q -f --invalidation-mode unchecked-hash /usr/local/lib/python3*

COPY --from=builder /opt/sidecar /opt/sidecar

# Last, so that a new revision changes no layer below.
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="sidecar" \
      org.opencontainers.image.description="An LLM rate-limit proxy that runs beside one application" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"

# PYTHONDONTWRITEBYTECODE stays unset: all byte code is there already, and the user below may not write any.
ENV PATH=/opt/sidecar/bin:$PATH \
    PYTHONUNBUFFERED=1

# Numeric, so that Kubernetes can see that it is not root (runAsNonRoot); any other works as well.
USER 65532:65532

EXPOSE 8787 8788

# The admin port where it is by default; on Kubernetes the probes of the pod do this, in either role.
HEALTHCHECK --interval=30s --timeout=3s --start-period=5s --retries=3 \
    CMD ["python", "-c", "import http.client, sys; c = http.client.HTTPConnection('127.0.0.1', 8788, timeout=2); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["sidecar"]
CMD ["serve"]
