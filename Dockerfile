# The stack of the README on a slim image, for the CPU: there is no nvcc that would
# compile the ops for a GPU.
#   docker build -t mmadaptor .
#   docker run --rm -it -v "$PWD/data:/mmadaptor/data" mmadaptor bash
FROM python:3.11-slim-bookworm

# The newest of each: the doctor at the end finds what does not fit together.
# hadolint global ignore=DL3008,DL3013

# A compiler for mmcv's ops and ours; libraries of opencv-python.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /mmadaptor
COPY requirements requirements
RUN pip install --no-cache-dir torch torchvision \
    && pip install --no-cache-dir -r requirements/build.txt

# The command that the doctor names for this torch.
COPY mmadaptor/environment.py mmadaptor/
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
RUN python -c "from mmadaptor.environment import install; print(install('mmcv'))" | bash -ex

COPY . .
RUN pip install --no-cache-dir --no-build-isolation -e '.[det,seg,cls]' \
    && python -m mmadaptor.doctor

CMD ["python", "-m", "mmadaptor.doctor"]
