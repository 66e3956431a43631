"""`GET /rule`: what may be asked and answered, as `training/rule.py` has it; the page reads it."""

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from training.evaluation import BEST_NLL, EXACT_MATCH_CEILING
from training.rule import RULE

router = APIRouter(tags=["inside"])


class RuleDescription(BaseModel):
    """What may be asked, what may be answered, and how well that can be learnt at all."""

    model_config = ConfigDict(from_attributes=True)

    alphabet: str = Field(description="the letters of queries and answers, each once")
    max_length: int = Field(description="letters in the longest query")
    answers: dict[str, str] = Field(description="for each letter those that may answer it")
    num_heads: int = Field(description="heads of the model's attention")
    letters_in_words: str = Field(description="the alphabet in short")
    query_in_words: str = Field(description="what a query is")
    summary: str = Field(description='to be read after "Each letter is answered with"')
    example: str = Field(description="a query")
    num_queries: int = Field(description="queries that exist")
    sha256: str = Field(description="of alphabet, longest query and answers; model cards have it")
    best_nll: float = Field(
        BEST_NLL, description="the best possible cross-entropy on fresh labels, nats a letter"
    )
    exact_match_ceiling: float = Field(
        EXACT_MATCH_CEILING, description="the best possible share of fresh labels that is matched"
    )


@router.get("/rule", summary="Her rule")
async def rule() -> RuleDescription:
    """What a query is, and what may answer each letter."""
    return RuleDescription.model_validate(RULE)
