# The workers: `python -m workers orchestrator` and `python -m workers synthesizer`.
FROM python:3.11-slim

# Log line by line; write no cache files, because the user may not write.
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

# Exec form, so that SIGTERM reaches Python, which drains and hands over its partitions.
ENTRYPOINT ["python", "-m", "workers"]
CMD ["orchestrator"]
