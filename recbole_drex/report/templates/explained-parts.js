// A prediction as a sum. Used by the report and by the server's page, which have different ways to show a quote.

// Rounded so that the numbers shown add up to the rounded sum.
const addingUp = (values) => {
  const cents = values.map((value) => Math.round(100 * value));
  const total = Math.round(100 * values.reduce((sum, value) => sum + value, 0));
  const missing = total - cents.reduce((sum, value) => sum + value, 0), step = Math.sign(missing);
  const order = values.map((_, place) => place)
    .sort((one, other) => step * (cents[one] - 100 * values[one] - cents[other] + 100 * values[other]));
  for (const place of order.slice(0, Math.abs(missing))) cents[place] += step;
  return { total: total / 100, parts: cents.map((value) => value / 100) };
};

const REASON = 0.05; // below it a part is no reason, as in recbole_drex/explain/prediction_parts.py

const claimText = ({ user, item }) => {
  if (!user || !item) return "";
  const said = [`${item.praise} praise`, `${item.blame} criticise`].filter((text) => !text.startsWith("0 ")).join(", ");
  const its = `${item.reviews} of ${item.total} reviews of the item${said ? ` (${said})` : ""}`;
  return `in ${user.reviews} of ${user.total} reviews of this user and ${its}`;
};

// `element` makes a node, `quoted` one for a quote: (review, whether it is the user's own) => node.
const partsOf = ({ parts, predicted }, element, quoted) => {
  const { total, parts: ratings } = addingUp(parts.map((part) => part.rating));
  const largest = Math.max(...parts.map((part, place) => (part.kind === "average" ? 0 : Math.abs(ratings[place])))) || 1;
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
  parts.forEach((part, place) => {
    const value = ratings[place], first = part.kind === "average";
    if (!value && !first) return;
    const sign = first ? "" : value < 0 ? "\u2212" : "+";
    body.append(row(part.name, sign + Math.abs(value).toFixed(2), value < 0 ? "down" : "", first ? null : value / largest, claimText(part)));
    if (Math.abs(part.rating) < REASON) return;
    for (const side of ["user", "item"]) if (part[side]?.quote) quotes.push(quoted(part[side].quote, side === "user"));
  });
  const foot = element("tfoot"), off = predicted !== null && predicted.toFixed(2) !== total.toFixed(2);
  foot.append(row("sum", total.toFixed(2), "", null, off ? `shown as ${predicted.toFixed(2)}, where the scale ends` : ""));
  table.append(body, foot);
  const box = element("div", undefined, "summands");
  box.append(table);
  if (quotes.length) {
    const list = element("div", undefined, "part-quotes");
    list.append(...quotes);
    box.append(list);
  }
  return box;
};
