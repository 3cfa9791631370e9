# Likeness in a container: docker build -t likeness . && docker run -p 8080:8080 -v likeness:/data likeness
# The run stage holds the program (the built-in model inside), the shared libraries that it loads, and one folder for data.
# It needs no network, no writable root file system and no capability.

FROM docker.io/library/debian:trixie-slim AS build
WORKDIR /src
# First alone, so that a changed source file does not install the compilers again.
COPY deploy/apt-install deploy/packages.txt deploy/
RUN deploy/apt-install build
COPY . .
# No -march: kernels for newer processors are chosen when the program starts.
RUN cmake -S . -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DLK_BENCH=OFF -DLK_TESTS=OFF \
 && cmake --build /build --target likeness \
 && install -D --strip /build/server/likeness /out/usr/local/bin/likeness
# The packages of what the program loads: asked of the program, so that no list of them can go stale.
RUN ldd /out/usr/local/bin/likeness | awk '$2 == "=>" { print $3 }' | xargs realpath | xargs dpkg-query -S \
    | sed 's/:.*//' | sort -u >/out/packages \
 && install -d /out/usr/local/share/doc/likeness \
 && cp LICENSE /out/usr/local/share/doc/likeness/ \
 && cp embed/training/NOTICE /out/usr/local/share/doc/likeness/NOTICE.model \
 && cp /usr/share/doc/libfaiss-dev/copyright /out/usr/local/share/doc/likeness/copyright.faiss

FROM docker.io/library/debian:trixie-slim
COPY --from=build /out/packages /tmp/packages
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive xargs apt-get install -y --no-install-recommends </tmp/packages \
 && rm -rf /tmp/packages /var/lib/apt/lists/* /var/cache/apt/* /var/cache/debconf/*-old /var/log/* \
 && install -d -o 10001 -g 10001 -m 0750 /data
COPY --from=build /out/usr/local /usr/local
RUN ["likeness", "--version"]

LABEL org.opencontainers.image.title="Likeness" \
      org.opencontainers.image.description="Image-based product search: send a catalogue, search it with a photo" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.base.name="docker.io/library/debian:trixie-slim"
ENV LIKENESS_LISTEN=0.0.0.0:8080 \
    LIKENESS_DATA=/data
# A number, so that Kubernetes can see that it is not root.
USER 10001:10001
WORKDIR /data
VOLUME /data
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["likeness", "health"]
ENTRYPOINT ["likeness"]
CMD ["serve"]
