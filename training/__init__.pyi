from .exchange.trained_backbone import load_backbone as load_backbone
from .exchange.video_clips import video_clips as video_clips
from .models.registry import register_backbone as register_backbone
