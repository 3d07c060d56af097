"""The style sheet of the page: light, dark, narrow and on paper."""

# Lines of CSS are kept whole.
# ruff: noqa: E501
CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #5a6472; --line: #d9dee4; --ground: #fff;
  --raised: #f6f8fa; --link: #0b5cad; --good: #1a7f37; --bad: #b3261e; --open: #7a5b00; --good-bg: #e6f4ea;
  --bad-bg: #fdecea; --open-bg: #fff5d6; --mark: #dcebfb; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e8ed; --soft: #9aa5b1; --line: #343b44;
  --ground: #14171b; --raised: #1d2126; --link: #7ab7ff; --good: #6fd58c; --bad: #ff9a90; --open: #f0cf6a;
  --good-bg: #16301d; --bad-bg: #3a1b19; --open-bg: #332b10; --mark: #1b3350; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 80rem; background: var(--ground);
  color: var(--ink); font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.55rem; line-height: 1.2; margin: 0 0 .25rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 62rem; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
.lead, .note, caption, figcaption { color: var(--soft); font-size: .9rem; }
header .lead { margin: .15rem 0; }
nav { margin: .6rem 0 0; font-size: .9rem; } nav a { margin-right: .9rem; white-space: nowrap; }
.scroll { overflow-x: auto; margin: .5rem 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .86rem; }
caption { text-align: left; padding-bottom: .3rem; caption-side: top; }
th, td { padding: .3rem .5rem; text-align: right; white-space: nowrap; vertical-align: top; }
th:first-child, .text td { text-align: left; }
thead th { border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); font-weight: 600;
  white-space: normal; vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 1.5px solid var(--ink); }
tbody th { font-weight: 500; position: sticky; left: 0; background: var(--ground); }
tr.group th { font-weight: 600; font-style: italic; color: var(--soft); border-top: 1px solid var(--line);
  padding-top: .5rem; }
.seeds { display: block; white-space: normal; color: var(--soft); font-size: .8rem; } .seeds a { margin-left: .45rem; }
td a, a.figure { color: inherit; } a.figure { text-decoration: underline; text-decoration-color: var(--line); text-underline-offset: .25em; } :target { background: var(--mark); }
.wide td, .wide th { white-space: normal; text-align: left; } .wide td:last-child { min-width: 14rem; }
.word { display: inline-block; border-radius: .3rem; padding: 0 .45rem; font-weight: 600; white-space: nowrap; }
.good { color: var(--good); background: var(--good-bg); } .bad { color: var(--bad); background: var(--bad-bg); }
.open { color: var(--open); background: var(--open-bg); }
.known { color: var(--soft); background: var(--raised); }
.answer { font-weight: 600; margin: .5rem 0 .9rem; padding: .5rem .8rem; border-left: 4px solid; }
.answer a { color: inherit; }
.reading summary { padding: .35rem 0; } .reading summary .word { margin-right: .5rem; }
.reading h3 { margin-bottom: 0; }
.verdicts { list-style: none; padding: 0; margin: .5rem 0; }
.verdicts li { padding: .45rem 0; border-bottom: 1px solid var(--line); }
.compared td:nth-last-child(2) { white-space: normal; min-width: 9rem; } .compared tbody :is(th, td:nth-child(2)) { white-space: normal; }
.compared :is(td, th):nth-child(2) { text-align: left; }
.verdicts .arm { font-weight: 600; margin-right: .5rem; } .verdicts p { margin: .15rem 0 0; }
.figures { columns: 30rem 2; column-gap: 1.6rem; }
figure { margin: 0 0 1.4rem; break-inside: avoid; overflow-x: auto; } figure svg { width: 100%; height: auto;
  display: block; } svg text { font-family: inherit !important; }
details { margin: .5rem 0; } summary { cursor: pointer; }
.case { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem .8rem; margin: .7rem 0; }
.case h4 { margin: 0 0 .3rem; font-size: .85rem; font-weight: 600; color: var(--soft); }
.case pre, pre { white-space: pre-wrap; overflow-wrap: anywhere; margin: .2rem 0 .5rem; font-size: .82rem;
  font-family: ui-monospace, "DejaVu Sans Mono", monospace; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: .2rem .9rem; } .sides > * { min-width: 0; }
.sides b { font-size: .85rem; } .right { color: var(--good); } .wrong { color: var(--bad); }
code { font-size: .85em; overflow-wrap: anywhere; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; font-size: .9rem; }
dt { color: var(--soft); } dd { margin: 0; overflow-wrap: anywhere; }
@media (max-width: 40rem) { body { padding: 1rem .8rem 3rem; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .4rem; } .sides { grid-template-columns: 1fr; } th, td { padding: .3rem .45rem; }
  tbody th { max-width: 8rem; white-space: normal; min-width: 6rem; }
  .seeds { max-width: 7.5rem; margin-left: auto; } }
@media print { :root { color-scheme: light; } body { max-width: none; font-size: 10pt; padding: 0; }
  nav { display: none; } .scroll, figure { overflow: visible; } figure, .case, tr { break-inside: avoid; }
  a { color: inherit; } h2 { break-after: avoid; } }
"""
