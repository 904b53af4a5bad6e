# The operator's image: docker build -t chronik/operator:0.1.0 .
# The wheel is built from the files that .dockerignore lets in, so the image holds what `pip install chronik` installs.

FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY chronik chronik
COPY templates templates
COPY schema schema
COPY deploy deploy
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .
# Extras of the package, in pip's spelling: --build-arg EXTRAS=[kafka,tracing]. Without kafka it is no probe of a mirror.
ARG EXTRAS="[kafka]"
# A pod never loads the client's thousands of models, so their bytecode, half of it all, is left out.
RUN python -m venv --without-pip /opt/chronik \
    && pip --python /opt/chronik/bin/python install --no-cache-dir --no-compile "$(echo /wheels/*.whl)${EXTRAS}" \
    && /opt/chronik/bin/python -m compileall -q -x /site-packages/kubernetes/ /opt/chronik/lib

FROM python:3.11-slim
COPY --from=build /opt/chronik /opt/chronik
# The root file system is read-only in the cluster: what is cached goes to /tmp, and Python writes no bytecode.
ENV PATH=/opt/chronik/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    XDG_CACHE_HOME=/tmp
USER 65534:65534
ENTRYPOINT ["chronik"]
CMD ["reconcile"]
