"""Step 4: the loss."""

from training.backend import mx
from training.vocabulary import PADDING


def cross_entropy_loss(logits: mx.array, labels: mx.array, *, mask_padding: bool) -> mx.array:
    """Mean cross-entropy, in nats a letter, of logits (B, L, V) against labels.

    Labels are (B, L), or (B, R, L): R of them for each query, which is the same as the query R
    times in the batch, at the price of once.

    The floor over letters is ln 5 = 1.6094 by the default rule: a label is one of five vowels.

    Without `mask_padding` it is the book's loss: an empty position's label is the argmax of an
    all-zero row, that is 0, so that Menny also learns to answer nothing with 'a'. Those positions
    are easy, and pull the loss far below its floor.
    """
    batch_size, length, _ = logits.shape
    labels = labels.reshape(batch_size, -1, length).swapaxes(1, 2)  # (B, L, R)
    is_letter = labels != PADDING
    log_probabilities = logits - mx.logsumexp(logits, axis=-1, keepdims=True)  # (B, L, V)
    losses = -mx.take_along_axis(log_probabilities, mx.where(is_letter, labels, 0), axis=-1)
    if not mask_padding:
        return losses.mean()
    return (losses * is_letter).sum() / is_letter.sum()


if __name__ == "__main__":
    from training.show import show

    show("loss")
