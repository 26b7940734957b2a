// A prediction as a sum.

// Rounds numbers so that they add up to the rounded sum.
const addingUp = (values) => {
  const cents = values.map((value) => Math.round(100 * value));
  const total = Math.round(100 * values.reduce((sum, value) => sum + value, 0));
  const missing = total - cents.reduce((sum, value) => sum + value, 0), step = Math.sign(missing);
  const order = values.map((_, index) => index)
    .sort((one, other) => step * (cents[one] - 100 * values[one] - cents[other] + 100 * values[other]));
  for (const index of order.slice(0, Math.abs(missing))) cents[index] += step;
  return { total: total / 100, parts: cents.map((value) => value / 100) };
};

const REASON = 0.05; // smallest effect of a reason, as in recbole_drex/explain/prediction_parts.py

const claimText = ({ user, item }) => {
  if (!user || !item) return "";
  const opinions = [`${item.praise} praise`, `${item.blame} criticise`].filter((text) => !text.startsWith("0 ")).join(", ");
  const its = `${item.reviews} of ${item.total} reviews of the item${opinions ? ` (${opinions})` : ""}`;
  return `in ${user.reviews} of ${user.total} reviews of this user and ${its}`;
};

const sourceOf = (review, own) => {
  const rating = review.rating === null ? "" : ` · ${rated(review.rating)}`;
  return `${own ? `this user, about ${review.title || review.item}` : `user ${review.user}, about this item`}${rating}`;
};

const partQuote = (review, own) => quoted(review.quote, sourceOf(review, own));

// The first entries of a list; the rest is folded.
const firstOf = (shown, nodes, list, noun) => {
  list.append(...nodes.slice(0, shown));
  const rest = nodes.slice(shown);
  if (!rest.length) return [list];
  const more = list.cloneNode();
  more.append(...rest);
  return [list, holding("details", "", element("summary", `${rest.length} more ${noun}${rest.length === 1 ? "" : "s"}`), more)];
};

const QUOTES = 4; // quotes of a sum that are not folded
const partsOf = ({ parts, predicted }) => {
  const { total, parts: ratings } = addingUp(parts.map((part) => part.rating));
  const most = Math.max(...parts.map((part, index) => (part.kind === "average" ? 0 : Math.abs(ratings[index])))) || 1;
  const table = element("table", undefined, "parts"), body = element("tbody"), quotes = [];
  const row = (name, value, className, share, facts) => {
    const line = element("tr"), heading = element("th", name), cell = element("td"), track = element("span", undefined, "effect");
    heading.scope = "row";
    if (share !== null) {
      const bar = element("span", undefined, share < 0 ? "down" : "up");
      bar.style.width = `${50 * Math.min(1, Math.abs(share))}%`;
      track.ariaHidden = "true";
      track.append(bar);
      cell.append(track);
    }
    line.append(heading, element("td", value, `num ${className}`.trim()), cell, element("td", facts, "soft small"));
    return line;
  };
  parts.forEach((part, index) => {
    const value = ratings[index], first = part.kind === "average";
    if (!value && !first) return;
    const sign = first ? "" : value < 0 ? "\u2212" : "+";
    body.append(row(part.name, sign + Math.abs(value).toFixed(2), value < 0 ? "down" : "", first ? null : value / most, claimText(part)));
    if (Math.abs(part.rating) < REASON) return;
    for (const side of ["user", "item"]) if (part[side]?.quote) quotes.push(partQuote(part[side].quote, side === "user"));
  });
  const foot = element("tfoot"), off = predicted !== null && predicted.toFixed(2) !== total.toFixed(2);
  foot.append(row("sum", total.toFixed(2), "", null, off ? `shown as ${predicted.toFixed(2)}, where the scale ends` : ""));
  table.append(body, foot);
  return holding("div", "", table, ...firstOf(QUOTES, quotes, element("div", undefined, "part-quotes"), "quote"));
};
