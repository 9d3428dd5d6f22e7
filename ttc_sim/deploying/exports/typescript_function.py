"""``typescript``: a plan's routes as one TypeScript file that needs nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ttc_sim.deploying.endpoints import Endpoint
from ttc_sim.deploying.exports.literals import literal
from ttc_sim.deploying.exports.routing import routing_of
from ttc_sim.deploying.exports.target import Export
from ttc_sim.optimizer.plan import SavedPlan

FILE = "route.ts"

# Types stand in interfaces, in aliases, and as one name after a constant's: whoever cannot strip them can leave these out.
_BEGIN = """// Routes of a plan of ttc-sim: where each request goes, and with how many tokens at most. Any ECMAScript from 2020 on.
//
//     import { route } from "./route.ts";
//     route("SOURCE", { difficulty: 0.3 }, 200).arm;

export interface Strategy {
  readonly kind: string;
  readonly [parameter: string]: unknown;
}

export interface Endpoint {
  readonly url: string;
  readonly model: string;
  readonly key_env: string | null;
  readonly limit_by: string;
  readonly takes_prefix: boolean;
  readonly body: unknown;
}

export interface Arm {
  readonly deployment: string;
  readonly max_tokens: number | null;
  readonly strategy: Strategy;
  readonly fallbacks: readonly string[];
  readonly endpoint: Endpoint | null;
}

export interface Bands {
  readonly score: string | null;
  readonly edges: readonly number[];
  readonly arms: readonly string[];
}

export interface Response {
  readonly arm: string;
  readonly features: readonly string[];
  readonly ranges: readonly (readonly [number, number])[];
  readonly correct: readonly number[];
  readonly api_cost_usd: readonly number[] | null;
  readonly gpu_s: readonly number[] | null;
  readonly seconds: readonly number[];
  readonly gpu_usd_per_s: number;
}

export interface Weighed {
  readonly prices: { readonly accuracy: number; readonly second: number };
  readonly responses: readonly Response[];
}

export interface Route extends Arm {
  readonly arm: string;
}

export interface Request {
  readonly source: string;
  readonly scores: Scores;
  readonly promptTokens: number | null;
}

export type Scores = Readonly<Record<string, number>>;
export type Arms = readonly (readonly [string, Arm])[];
export type Rules = readonly (readonly [string, Bands | Weighed])[];
export type Router = (source?: string | null, scores?: Scores | null, promptTokens?: number | null) => Route;
type Score = (name: string, request: Request) => number;
type WorthMost = (rule: Weighed, request: Request) => string;
type Dot = (values: readonly number[], weights: readonly number[]) => number;
type Curve = (x: number) => number;
"""

_CODE = """
const score: Score = (name, { scores, promptTokens }) => {
  const value = Object.prototype.hasOwnProperty.call(scores, name)
    ? scores[name]
    : name === "prompt_tokens"
      ? promptTokens
      : undefined;
  if (typeof value !== "number" || !Number.isFinite(value)) {
    throw new RangeError(`score ${JSON.stringify(name)}: got ${String(value)}; expected a finite number`);
  }
  return value;
};

// The standard normal distribution, by the series of Marsaglia (2004), https://doi.org/10.18637/jss.v011.i04.
const normal: Curve = (z) => {
  if (Math.abs(z) > 8.5) {
    return z > 0 ? 1 : 0;
  }
  let [sum, before, term, i] = [z, 0, z, 1];
  while (sum !== before) {
    i += 2;
    term *= (z * z) / i;
    [before, sum] = [sum, sum + term];
  }
  return 0.5 + sum * Math.exp(-0.5 * z * z - 0.9189385332046727);
};

const feature: Score = (name, request) => {
  const space = name.indexOf(" ");
  const [kind, rest] = space < 0 ? [name, ""] : [name.slice(0, space), name.slice(space + 1)];
  if (name === "1") {
    return 1;
  }
  if (kind === "source") {
    return rest === request.source ? 1 : 0;
  }
  if (name === "log prompt_tokens") {
    // Of the prompt itself, whatever the scores say.
    return Math.log(Math.max(score("prompt_tokens", { ...request, scores: {} }), 1));
  }
  if (kind === "novelty") {
    return score("novelty", request);
  }
  if (kind === "logit") {
    const chance = Math.min(Math.max(score(rest, request), 0.005), 0.995);
    return Math.log(chance / (1 - chance));
  }
  if (kind === "log") {
    return Math.log(Math.max(score(rest, request), 1));
  }
  const after = rest.indexOf(" ");
  const [cap, model] = [Number(rest.slice(0, after)), rest.slice(after + 1)];
  const middle = Math.log(Math.max(score(`tokens_p50:${model}`, request), 1));
  const high = Math.log(Math.max(score(`tokens_p90:${model}`, request), 1));
  return normal((Math.log(cap) - middle) / Math.max((high - middle) / 1.2815515655446004, 0.05));
};

const dot: Dot = (values, weights) => values.reduce((sum, value, k) => sum + value * (weights[k] ?? 0), 0);

// The arm of highest expected value in US dollars; of equal ones the first.
const worthMost: WorthMost = (rule, request) => {
  let best = -Infinity;
  let chosen = null;
  for (const one of rule.responses) {
    const values = one.features.map((name, k) => {
      const [low, high] = one.ranges[k] ?? [-Infinity, Infinity];
      return Math.min(Math.max(feature(name, request), low), high);
    });
    const correct = 1 / (1 + Math.exp(-dot(values, one.correct)));
    const apiUsd = one.api_cost_usd === null ? 0 : Math.exp(dot(values, one.api_cost_usd));
    const gpuS = one.gpu_s === null ? 0 : Math.exp(dot(values, one.gpu_s));
    const costUsd = apiUsd + one.gpu_usd_per_s * gpuS;
    const seconds = Math.exp(dot(values, one.seconds));
    const worth = rule.prices.accuracy * correct - costUsd - rule.prices.second * seconds;
    if (worth > best) {
      best = worth;
      chosen = one.arm;
    }
  }
  if (chosen === null) {
    throw new RangeError(`source ${JSON.stringify(request.source)}: got scores for which no arm is worth a finite sum`);
  }
  return chosen;
};

/**
 * Where a request goes.
 *
 * source: that it comes from, one of SOURCES; may be left out where there is one only.
 * scores: what the plan's predictor says of it, by name: "difficulty", "p:MODEL", "tokens:MODEL", ...
 * promptTokens: as the model counts them; needed only where the plan looks at them.
 *
 * Throws a RangeError: a source that is not known, or a score that is needed and is missing or no finite number.
 */
export const route: Router = (source, scores, promptTokens) => {
  const named = source ?? (SOURCES.length === 1 ? SOURCES[0]?.[0] : null);
  const found = SOURCES.find(([name]) => name === named);
  if (found === undefined) {
    const known = SOURCES.map(([name]) => JSON.stringify(name)).join(", ");
    throw new RangeError(`source: got ${JSON.stringify(named)}; expected one of ${known}`);
  }
  const rule = found[1];
  const request = { source: found[0], scores: scores ?? {}, promptTokens: promptTokens ?? null };
  let arm;
  if ("prices" in rule) {
    arm = worthMost(rule, request);
  } else if (rule.score === null) {
    arm = rule.arms[0];
  } else {
    const value = score(rule.score, request);
    arm = rule.arms[rule.edges.filter((edge) => edge <= value).length];
  }
  const served = ARMS.find(([name]) => name === arm);
  if (arm === undefined || served === undefined) {
    throw new RangeError(`arm: got ${arm}; expected one of ARMS`);
  }
  return { arm, ...served[1] };
};
"""


def export(plan: SavedPlan, endpoints: Mapping[str, Endpoint]) -> Export:
    """The file.

    Raises:
        InputError: a policy that is Python of the user's own.
    """
    routing = routing_of(plan, endpoints)
    arms, rules = (_literal(list(table.items())) for table in (routing.arms, routing.sources))
    data = f"\nexport const ARMS: Arms = {arms};\n\nexport const SOURCES: Rules = {rules};\n"
    source = json.dumps(next(iter(routing.sources)))
    how = f'import {{ route }} from "./{FILE}"; route({source}, scores, promptTokens)'
    return Export({FILE: _BEGIN + data + _CODE}, routing.not_expressed, (how,))


def _literal(value: object) -> str:
    """In ASCII, as JSON has it but for the one key that a literal takes for something else."""
    return literal(value, lambda one: json.dumps(one, allow_nan=False), _key)


def _key(name: str) -> str:
    return '["__proto__"]' if name == "__proto__" else json.dumps(str(name))


__all__ = ["FILE", "export"]
