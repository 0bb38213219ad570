# The local server with its embedded database, for development and the CI of other projects. Not for production.
# docs/container.md says how to build and run it.
FROM python:3.12-slim

WORKDIR /signet
COPY requirements.txt ./
COPY infra/requirements.txt infra/venv.sh infra/signet.sh infra/
RUN PIP_NO_CACHE_DIR=1 sh infra/venv.sh
COPY app.py ./
COPY .chalice/config.json .chalice/
COPY chalicelib chalicelib
COPY infra infra
RUN .venv/bin/python -m compileall -q app.py chalicelib infra
RUN install -d -m 700 -o 10001 -g 10001 /data

USER 10001:10001
ENV XDG_STATE_HOME=/data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=5s --start-period=30s CMD ["/signet/.venv/bin/python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/healthz')"]
ENTRYPOINT ["/signet/.venv/bin/signet"]
CMD ["serve", "--host", "0.0.0.0"]
