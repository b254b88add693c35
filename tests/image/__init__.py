"""The image, built and run for real by podman, without a Docker engine.

`make test-image` runs it. It wants root and a few packages, says which are missing, and needs about a minute.
The base image is a stand-in, made of Debian's packages under the very name of the Dockerfile's FROM: that the real
python:3.13-slim behaves alike is assumed, not tested.
"""
