# The workers: `python -m workers orchestrator` and `python -m workers synthesizer`.
FROM python:3.11-slim

# Log line by line; write no cache files, because the user may not write.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin fabric

WORKDIR /src
COPY requirements.lock ./
RUN pip install --require-hashes -r requirements.lock
COPY pyproject.toml README.md LICENSE ./
COPY fabric ./fabric
COPY workers ./workers
RUN pip install --no-deps .

WORKDIR /
USER fabric

# /healthz says whether the worker lives; a server that is away does not make it unhealthy.
ENV FABRIC_HEALTH_PORT=8080
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s CMD ["python", "-c", \
  "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"FABRIC_HEALTH_PORT\"]}/healthz', timeout=2)"]

# Exec form, so that SIGTERM reaches Python, which drains and hands over its partitions.
ENTRYPOINT ["python", "-m", "workers"]
CMD ["orchestrator"]
