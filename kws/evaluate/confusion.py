"""How a classifier answered: accuracy, recall of each label and the confusion matrix. Plain numbers for JSON.

Words that too few people recorded are judged on synthetic speech, which is easier. So accuracy is given
twice: over all clips, and without the clips of those words.
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from kws.evaluate import metrics
from kws.evaluate.clips import Question

RECORDED, ALL = "recorded", "all"
"""Groups of clips: without the words that need synthetic speech, and all."""


def summarise(questions: Sequence[Question], answers: Sequence[str | None], labels: Sequence[str]) -> Any:
    """All figures of one network; an answer of None is a clip that could not be read, and counts nowhere.

    Returns:
        ``accuracy``: by group, clips, correct ones, share and its Wilson interval. ``recall``: by label, the
        same of the clips that say it. ``confusion``: rows by truth, columns by answer, as labels.
        ``wrong``: every clip that was labelled wrongly. ``unreadable``: names of clips.
    """
    asked = [(q, answer) for q, answer in zip(questions, answers, strict=True) if answer is not None]
    scarce = scarce_words(questions)
    counts = Counter((q.label, answer) for q, answer in asked)
    return {
        "accuracy": {
            RECORDED: _share([q.label == a for q, a in asked if q.label not in scarce]),
            ALL: _share([q.label == a for q, a in asked]),
        },
        "scarce": scarce,
        "recall": {label: _share([a == label for q, a in asked if q.label == label]) for label in labels},
        "confusion": [[counts[truth, answer] for answer in labels] for truth in labels],
        "wrong": [
            {"clip": _name(q), "said": q.clip.label or q.label, "label": q.label, "answer": answer}
            for q, answer in asked
            if answer != q.label
        ],
        "unreadable": [_name(q) for q, answer in zip(questions, answers, strict=True) if answer is None],
    }


def scarce_words(questions: Sequence[Question]) -> list[str]:
    """Labels that are judged on synthetic speech, in the order of the questions."""
    return list(dict.fromkeys(question.label for question in questions if question.is_synthetic))


def _share(correct: Sequence[bool]) -> dict[str, float]:
    low, high = metrics.wilson_interval(sum(correct), len(correct))
    share = sum(correct) / len(correct) if correct else 0.0
    return {"clips": len(correct), "correct": sum(correct), "share": share, "low": low, "high": high}


def _name(question: Question) -> str:
    name = f"{question.clip.source}/{question.clip.label or 'noise'}/{question.clip.path.name}"
    return name if question.cut_s is None else f"{name} at {question.cut_s:.2f} s"
