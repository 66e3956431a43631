"""Step 4: the loss."""

from training.backend import mx, nn
from training.vocabulary import PADDING


def cross_entropy_loss(logits: mx.array, labels: mx.array, *, mask_padding: bool) -> mx.array:
    """Mean cross-entropy, in nats a letter, of logits (B, L, V) against labels (B, L).

    The floor over letters is ln 5 = 1.6094: a label is one of five vowels at random.

    Without `mask_padding` it is the book's loss: an empty position's label is the argmax of an
    all-zero row, that is 0, so that Menny also learns to answer nothing with 'a'. Those positions
    are easy, and pull the loss far below ln 5.
    """
    is_letter = labels != PADDING
    losses = nn.losses.cross_entropy(logits, mx.where(is_letter, labels, 0))  # (B, L)
    if not mask_padding:
        return losses.mean()
    return (losses * is_letter).sum() / is_letter.sum()
