# One image, any command: `docker run … threadwright up`, `… threadwright doctor`.
# In stock Docker no sandbox of namespaces starts: README, "When the sandbox does not start", says what to do.
FROM python:3.12-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 64301 threadwright

ENV UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy PATH=/app/.venv/bin:$PATH THREADWRIGHT_HOME=/data
WORKDIR /app
COPY pyproject.toml uv.lock README.md ./
RUN pip install --no-cache-dir 'uv>=0.11' && uv sync --frozen --no-dev --no-install-project
COPY bot bot
COPY graph graph
COPY integrations integrations
COPY jobs jobs
RUN uv sync --frozen --no-dev && install -d -o threadwright -g threadwright -m 0700 /data

USER threadwright
VOLUME /data
CMD ["threadwright", "up"]
