# The daemons: `python -m workers orchestrator` and `python -m workers synthesizer`.
FROM python:3.11-slim

# Logs appear line by line, and no cache files are written as a user who may not write.
ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1

RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin fabric

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY fabric ./fabric
COPY workers ./workers
RUN pip install .

WORKDIR /
USER fabric

# Exec form: SIGTERM reaches Python, which drains and hands its partitions over.
ENTRYPOINT ["python", "-m", "workers"]
CMD ["orchestrator"]
