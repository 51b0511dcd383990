// Evaluates GitHub Actions' expressions with GitHub's own library: one JSON request a line on standard input
// ({text, context, status, workspace, condition}), one JSON answer a line on standard output ({value} or {error}).
import { Evaluator, Lexer, Parser, data } from "@actions/expressions";
import { existsSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";

const STATUS_FUNCTIONS = /\b(success|failure|cancelled|always)\s*\(/i;

function functions(status, workspace) {
  const bool = (name, value) => ({ name, minArgs: 0, maxArgs: 0, call: () => new data.BooleanData(value) });
  const hash = (...patterns) =>
    new data.StringData(patterns.some((p) => existsSync(join(workspace, p.coerceString()))) ? "e3b0c442" : "");
  return [
    bool("success", status === "success"),
    bool("failure", status === "failure"),
    bool("cancelled", status === "cancelled"),
    bool("always", true),
    { name: "hashfiles", minArgs: 1, maxArgs: 255, call: hash },
  ];
}

function evaluate(expression, request) {
  const context = JSON.parse(JSON.stringify(request.context), data.reviver);
  const extra = functions(request.status, request.workspace);
  const parsed = new Parser(new Lexer(expression).lex().tokens, Object.keys(request.context), extra).parse();
  return new Evaluator(parsed, context, new Map(extra.map((f) => [f.name, f]))).evaluate();
}

function answer(request) {
  const whole = request.text.trim().match(/^\$\{\{((?:(?!\}\}).)*)\}\}$/s);
  if (request.condition) {
    // A condition that asks for no status holds only when all went well so far.
    const inner = whole ? whole[1] : request.text;
    const asked = STATUS_FUNCTIONS.test(inner) ? inner : `success() && (${inner})`;
    const result = evaluate(asked, request);
    return ![data.Kind.Null].includes(result.kind) && !["", "false", "0"].includes(result.coerceString());
  }
  if (whole) return JSON.parse(JSON.stringify(evaluate(whole[1], request), data.replacer) ?? "null");
  return request.text.replace(/\$\{\{(.*?)\}\}/gs, (_, inner) => evaluate(inner, request).coerceString());
}

for await (const line of createInterface({ input: process.stdin })) {
  let reply;
  try {
    reply = { value: answer(JSON.parse(line)) };
  } catch (error) {
    reply = { error: String(error.message ?? error) };
  }
  process.stdout.write(JSON.stringify(reply) + "\n");
}
