"""A prediction as a notebook shows it: each score with its decision and a small picture of its map, on one scale."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from padim_zoo.core.errors import InputError
from padim_zoo.core.numbers import number_of
from padim_zoo.core.printable import printable
from padim_zoo.detectors.prediction_files import photo_of
from padim_zoo.pictures.colormap import Scale, color_table, place_on_scale

if TYPE_CHECKING:
    from padim_zoo.detectors.prediction import Prediction

MOST = 24
"""Images shown; of more, a line says so."""

SIDE = 96
"""Longer side of a picture in pixels."""

_CARD = (
    "display:inline-block;vertical-align:top;max-width:208px;overflow-wrap:anywhere;"
    "margin:0 6px 8px 0;padding:4px;text-align:center;"
    "border:2px solid {color};border-radius:4px;font:11px/1.35 system-ui,sans-serif"
)
# The colors of the frames in padim_zoo.pictures.drawing; decisions are told in words too.
_ANOMALOUS, _NORMAL, _UNDECIDED = "#c81e28", "#6ecd82", "#9aa0a8"


def to_html(prediction: Prediction) -> str:
    """HTML of bounded size, whatever the number and the size of the images: at most 24 cards of a few kB each."""
    anomalous = prediction.anomalous
    count = len(prediction)
    told = [number_of(count, "image")]
    if anomalous is not None:
        told.append(f"{int(anomalous.sum())} anomalous (score &gt; {prediction.threshold:.4g})")
    else:
        told.append("no threshold: calibrate the detector to tell normal from anomalous")
    if prediction.maps is None:
        told.append("no anomaly maps: the detector scores whole images")
    elif prediction.scale is None:
        told.append("no color scale for the maps without a threshold")
    cards = [_card(prediction, position) for position in range(min(count, MOST))]
    more = f"<div>… and {count - MOST} more</div>" if count > MOST else ""
    legend = "" if prediction.maps is None or prediction.scale is None else _legend(prediction.scale)
    heading = f'<div style="margin:2px 0 6px">{" · ".join(told)}</div>'
    return f'<div style="font:12px system-ui,sans-serif">{heading}{legend}<div>{"".join(cards)}</div>{more}</div>'


def _card(prediction: Prediction, position: int) -> str:
    anomalous = prediction.anomalous
    color, word = _UNDECIDED, ""
    if anomalous is not None:
        color, word = (_ANOMALOUS, "anomalous") if anomalous[position] else (_NORMAL, "normal")
    picture = ""
    if prediction.maps is not None and prediction.scale is not None:
        anomaly_map = prediction.maps[position]
        if prediction.roi_masks is not None:
            anomaly_map = np.where(prediction.roi_masks[position], anomaly_map, np.nan)
        encoded = base64.b64encode(_thumbnail(anomaly_map, prediction.scale)).decode()
        picture = f'<img alt="anomaly map {position}" src="data:image/png;base64,{encoded}" style="max-width:96px"><br>'
    photo = _photo(prediction, position)
    name = escape(printable(Path(prediction.names[position]).name))
    words = f"{name} · <b>{escape(f'{prediction.deciding_scores[position]:.4g}')}</b><br>{word}"
    return f'<div style="{_CARD.format(color=color)}">{photo}{picture}{words}</div>'


def _photo(prediction: Prediction, position: int) -> str:
    """A small picture of the image itself, where it can be read."""
    try:
        photo = photo_of(prediction, position)
    except InputError:  # removed since
        return ""
    if photo is None:
        return ""
    image = Image.fromarray(photo)
    image.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=80)
    encoded = base64.b64encode(buffer.getvalue()).decode()
    return f'<img alt="image {position}" src="data:image/jpeg;base64,{encoded}" style="max-width:96px"> '


def _thumbnail(anomaly_map: np.ndarray, scale: Scale) -> bytes:
    """A PNG with a palette: one byte a pixel. Pixels without a score are transparent."""
    position = place_on_scale(anomaly_map, scale)
    unknown = np.isnan(position)
    # 255 of the 256 places are for colors, the last for no score.
    places = np.rint(np.where(unknown, 0.0, position) * 254).astype(np.uint8)
    places[unknown] = 255
    image = Image.fromarray(places)
    step = max(1.0, max(image.size) / SIDE)
    size = (max(1, round(image.width / step)), max(1, round(image.height / step)))
    image = image.resize(size, Image.Resampling.NEAREST)  # an average of places would invent scores beside NaN
    palette = Image.frombytes("P", image.size, image.tobytes())
    colors = color_table()[np.rint(np.linspace(0, 255, 255)).astype(int)]
    palette.putpalette([*colors.ravel().tolist(), 128, 128, 128])
    buffer = io.BytesIO()
    palette.save(buffer, "PNG", optimize=True, transparency=255)
    return buffer.getvalue()


def _legend(scale: Scale) -> str:
    stops = ",".join("#" + bytes(color).hex() for color in color_table()[::51])
    return (
        f'<div style="margin-bottom:6px;font-size:11px">{scale[0]:.4g} '
        f'<span style="display:inline-block;width:160px;height:9px;border-radius:2px;vertical-align:middle;'
        f'background:linear-gradient(to right,{stops})"></span> {scale[1]:.4g}</div>'
    )
