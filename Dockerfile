# docker build --tag embedsweep:cpu .
# docker build --tag embedsweep:cuda --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu130 .
FROM python:3.11-slim-trixie AS wheel
WORKDIR /source
COPY pyproject.toml hatch_build.py README.md LICENSE ./
COPY conf conf
COPY src src
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.11-slim-trixie
# Where torch comes from: built for CPUs, or with the CUDA that the nodes' driver supports.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
# Extras of embedsweep, with commas.
ARG EXTRAS=postgresql,s3
# torch alone from its index, so that everything else comes from where it was pinned.
RUN --mount=type=bind,source=constraints.txt,target=/tmp/constraints.txt \
    --mount=type=bind,from=wheel,source=/wheels,target=/tmp/wheels \
    pip install --no-cache-dir --no-deps --constraint /tmp/constraints.txt --index-url "$TORCH_INDEX" torch && \
    pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /tmp/wheels/*.whl)[$EXTRAS]" && \
    useradd --uid 1000 --create-home embedsweep && \
    mkdir /work && chown 1000:1000 /work
# NVIDIA's runtime mounts the driver for these: training, and what measures energy and memory.
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /work
ENTRYPOINT ["embedsweep"]
CMD ["--help"]
