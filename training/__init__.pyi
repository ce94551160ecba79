from .exchange.trained_backbone import load_backbone as load_backbone
from .exchange.trained_backbone import load_clip_form as load_clip_form
from .exchange.video_clips import video_clips as video_clips
from .models.registry import register_backbone as register_backbone
from .objective.registry import register_term as register_term
from .objective.terms import Given as Given
from .objective.terms import Seen as Seen
from .objective.terms import Term as Term
