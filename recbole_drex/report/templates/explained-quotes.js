// Numbers, bars and quotes of explanations.
const holding = (name, className, ...children) => {
  const node = element(name, undefined, className);
  node.append(...children);
  return node;
};
const fixed = (number) => number.toFixed(2);
const counted = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;
const rated = (rating) => `★\u00a0${Number.isInteger(rating) ? rating : fixed(rating)}`;
const largest = (numbers) => Math.max(0, ...numbers.map(Math.abs));

// A change with its sign; small changes have more decimals, and changes that round to 0 have no sign.
const signed = (number, scale) => {
  const text = Math.abs(number).toFixed(scale < 0.1 ? 3 : 2);
  return Number(text) === 0 ? text : `${number < 0 ? "\u2212" : "+"}${text}`;
};

// A bar that grows from the middle: to the right if the prediction was raised, to the left if it was lowered.
const effect = (delta, scale) => {
  const bar = element("span", undefined, delta < 0 ? "down" : "up");
  bar.style.width = `${scale ? (50 * Math.abs(delta)) / scale : 0}%`;
  const track = holding("span", "effect", bar);
  track.ariaHidden = "true";
  return holding("span", "change", element("span", signed(delta, scale), "num"), track);
};

// A bar from the left, for weights and scores.
const amount = (value, scale) => {
  const bar = element("span");
  bar.style.width = `${scale ? (100 * Math.max(0, value)) / scale : 0}%`;
  const track = holding("span", "amount", bar);
  track.ariaHidden = "true";
  return track;
};

const deltasOf = (quotes) => quotes.flatMap((quote) => quote ?? []).map((piece) => piece.delta ?? 0);

// Three steps of shade; below a tenth of the strongest, a word is not marked.
const shade = (value, scale) => {
  const part = scale ? Math.abs(value) / scale : 0;
  return part < 0.1 ? 0 : part < 0.4 ? 1 : part < 0.7 ? 2 : 3;
};

// The words of a quote, shaded by sentiment; else, with a `scale` (the maximum), by their effect on the prediction; else
// by attention. `isAsked` tells which words the reader selected.
const quoteText = (quote, scale, isAsked = () => false) => {
  const node = element("p", ""), strongest = largest(quote.map((piece) => piece.attention ?? 0));
  for (const { text, marked, attention, delta, sentiment } of quote) {
    const judged = marked && sentiment !== null, moved = !judged && Boolean(scale) && marked && delta !== null;
    const value = judged ? sentiment : delta, kind = !judged && !moved ? "heat" : value < 0 ? "down" : "up";
    const step = !marked ? 0 : judged ? Math.max(1, shade(sentiment, 1)) : moved ? shade(delta, scale) : shade(attention ?? 0, strongest);
    const asked = marked && isAsked(text);
    if (!step && !asked) { node.append(text); continue; }
    const mark = element("mark", text, `${step ? `${kind}-${step}` : "plain"}${asked ? " asked" : ""}`);
    const facts = [];
    if (moved) facts.push(`${signed(delta, 0)} to the prediction`);
    if (judged) facts.push(`classified as ${sentiment < 0 ? "criticism" : "praise"}, ${Math.abs(sentiment).toFixed(2)} of 1`);
    if (attention !== null) facts.push(`attention ${attention.toFixed(3)}`);
    if (facts.length) mark.title = facts.join("; ");
    node.append(mark);
  }
  return node;
};

const quoted = (quote, source, scale = 0, isAsked = undefined) => {
  const node = element("blockquote");
  if (quote) node.append(quoteText(quote, scale, isAsked));
  node.append(element("cite", source));
  return node;
};
