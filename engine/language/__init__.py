"""The expression language: Jinja's grammar, our own meaning and limits.

`syntax` parses with Jinja and knows the exact place of everything; `check` lets only known names, functions, filters,
tests and statements pass; `code` makes one plain Python function of the tree, which can call what `runtime` lists and
nothing else. There is no attribute access, no Jinja context and no Python built-in in it, so nothing of an event can
be run, and what a template sets is a local variable of that function.

The meaning, by `lookup` (reading) and `values` (operators, tests, showing):

- Look-up is by key in objects and by place in lists. What is not there is missing: false, shown as nothing.
- A comparison with missing, with null or between unlike kinds is false, `!=` and `not in` too. `== none`, `is none`
  and `!= none` ask whether a value is missing or null. True and false are not numbers.
- What cannot be computed is missing: arithmetic, functions and filters on missing, null or unlike kinds, division by
  zero, a number too large. `+` joins two texts or two lists; `~` joins the texts of anything.
- `value | name(a)` and `name(value, a)` are the same.
- Times: `now`, `event.time.*`, `profile.time.*`, `session.time.*`, `profile.marks.*` and `at` and `until` of
  `profile.consents.*`, decided by the path when it is compiled. All other texts are texts until `time(…)` reads them.
  Time minus time is seconds; time plus or minus seconds is a time.
- Shown in a text, null is nothing, true is `true`, a time is ISO 8601, a list or object is JSON.
- `limits` says what one evaluation may cost; going over a limit fails the node.
"""
