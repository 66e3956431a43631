"""`GET /metrics`: what Prometheus scrapes."""

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from app.routes.dependencies import MetricsDep

router = APIRouter(tags=["health"])


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={200: {"content": {"text/plain": {}}}},
)
async def metrics(metrics: MetricsDep) -> Response:
    """Counts, times and sizes in Prometheus's text format."""
    return Response(generate_latest(metrics.scraped), media_type=CONTENT_TYPE_LATEST)
