# backscan on CPUs. Not built where it is developed, as there is no Docker, only linted (hadolint): build it once before you
# rely on it.
#   docker build -t backscan .
#   docker run --rm --network none -v "$PWD:/work:ro" backscan check model.onnx --data images.npz
FROM python:3.12-slim

# Where pip finds the CPU build of torch; its version, +cpu, counts as newer than the same one with CUDA.
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /opt/backscan
COPY pyproject.toml constraints.txt README.md LICENSE NOTICE ./
COPY scanner scanner
COPY kernels kernels
COPY converters converters
RUN pip install --no-cache-dir --extra-index-url "$TORCH_INDEX" --constraint constraints.txt '.[cpu]' \
    && useradd --create-home --uid 1000 scanner

USER 1000
ENV NUMBA_CACHE_DIR=/tmp/numba MPLCONFIGDIR=/tmp/matplotlib
WORKDIR /work
ENTRYPOINT ["scanner"]
CMD ["--help"]
