// A recommendation with its reasons, and a user with theirs.
const label = (text) => element("h5", text);

// Rating first, then where it stands against the user's mean.
const prediction = (predicted, mean) => {
  const box = holding("div", "rating", element("span", fixed(predicted)), element("small", "predicted rating"));
  if (mean !== null) {
    const difference = predicted - mean, where = signed(difference, 1);
    const against = element("small", ` against mean ${fixed(mean)}`);
    against.prepend(element("b", where, difference < 0 ? "down" : "up"));
    box.append(against);
  }
  return box;
};

const neighbourhood = ({ neighbours, rated: raters, relevant, threshold, mean_rating: mean }) => {
  const text = `${raters} of the ${neighbours} nearest users rated it, ${relevant} of them ${threshold} or more`;
  const words = element("p", mean === null ? `${text}.` : `${text}; their mean is ${fixed(mean)}.`);
  return holding("div", "neighbours", words, amount(relevant, neighbours));
};

// Words of both profiles, each with a quote from either side.
const sharedWords = (keywords, entries) => {
  const list = element("dl", undefined, "shared-words");
  for (const keyword of keywords) {
    const scores = `user ${fixed(keyword.user_score)}, item ${fixed(keyword.item_score)}`;
    const term = holding("dt", "", wordButton(keyword, entries, true), element("span", scores, "soft small"));
    const quotes = element("dd");
    if (keyword.user_quote) quotes.append(quoted(keyword.user_quote, "this user, about another item"));
    if (keyword.item_quote) quotes.append(quoted(keyword.item_quote, "another user, about this item"));
    list.append(holding("div", "", term, quotes));
  }
  return list;
};

const SHOWN = 3; // past reviews of either side that are not folded away

const pastReviews = (heading, evidence, named, reviewScale, wordScale) => {
  const entry = ({ review, delta }) => {
    const rating = review.rating === null ? "" : ` · ${rated(review.rating)}`;
    return holding("li", "", effect(delta, reviewScale), quoted(review.quote, named(review) + rating, wordScale));
  };
  const column = holding("div", "", label(heading), holding("ol", "past", ...evidence.slice(0, SHOWN).map(entry)));
  if (evidence.length > SHOWN) {
    const more = holding("details", "", element("summary", `${evidence.length - SHOWN} more`));
    more.append(holding("ol", "past", ...evidence.slice(SHOWN).map(entry)));
    column.append(more);
  }
  return column;
};

const evidenceColumns = (evidence) => {
  const reviewScale = largest(evidence.map((one) => one.delta));
  const wordScale = largest(deltasOf(evidence.map((one) => one.review.quote)));
  const sides = [
    ["user", "Own reviews that count here", (review) => review.title || review.item],
    ["item", "What others wrote about it", (review) => `user ${review.user}`],
  ];
  const columns = element("div", undefined, "sides");
  for (const [side, heading, named] of sides) {
    const found = evidence.filter((one) => one.side === side);
    if (found.length) columns.append(pastReviews(heading, found, named, reviewScale, wordScale));
  }
  return columns;
};

const wordEffects = (words, entries) => {
  const scale = largest(words.map((word) => word.delta)), list = element("ul", undefined, "effects");
  for (const word of words) {
    const facts = element("span", `in ${counted(word.reviews, "review")}`, "soft small");
    list.append(holding("li", "", effect(word.delta, scale), wordButton(word, entries), facts));
  }
  return list;
};

const usefulReviews = (reviews) => {
  const scale = largest(reviews.map((one) => one.weight ?? 0)), list = element("ol", undefined, "past");
  for (const { review, weight } of reviews) {
    const entry = holding("li", "", quoted(review.quote, `user ${review.user}`));
    if (weight !== null) entry.prepend(holding("span", "change", element("span", fixed(weight), "num"), amount(weight, scale)));
    list.append(entry);
  }
  return list;
};

// `brief`: beside another user there is room for the reasons' heads only, the rest is folded.
const recommendation = (item, entry, { entries, sharedItems, brief }) => {
  const both = sharedItems.has(item.item), node = element("li", undefined, both ? "both" : "");
  const name = holding("div", "", element("h4", item.title || item.item));
  if (item.title) name.append(element("span", item.item, "soft small"));
  if (both) name.append(element("span", "recommended to both", "badge"));
  const head = holding("div", "item-head", name);
  if (item.predicted !== null) head.append(prediction(item.predicted, entry.mean_rating));
  node.append(head);
  if (item.sentence) node.append(element("p", item.sentence, "sentence"));
  if (item.written) node.append(quoted([{ text: item.written }], "written by the model"));
  if (item.neighbours) node.append(neighbourhood(item.neighbours));

  if (item.keywords.length) {
    node.append(label("In the reviews of this user and of this item"));
    const chosen = new Set(item.keywords.map((keyword) => keyword.lemma));
    node.append(brief ? chips(item.keywords, chosen, entries) : sharedWords(item.keywords, entries));
  } else if (item.profile.length) {
    const instead = item.evidence.length ? " What follows is what moved the prediction." : "";
    node.append(element("p", `No word stands in both profiles.${instead}`, "none"));
  }
  const reasons = [];
  if (item.evidence.length) reasons.push(evidenceColumns(item.evidence));
  if (item.words.length) reasons.push(holding("div", "", label("Words that moved it"), wordEffects(item.words, entries)));
  if (item.reviews.length) {
    reasons.push(holding("div", "", label("Its most useful reviews, by the model's weights"), usefulReviews(item.reviews)));
  }
  if (item.profile.length) {
    const shared = new Set(item.keywords.map((keyword) => keyword.lemma));
    reasons.push(holding("div", "", label("Reviews of this item write about"), chips(item.profile, shared, entries)));
  }
  if (!brief) node.append(...reasons);
  else if (reasons.length) node.append(holding("details", "", element("summary", "Reasons in full"), ...reasons));
  return node;
};

const person = (entry, context) => {
  const { user, mean_rating: mean, profile, recommendations } = entry, node = element("section", undefined, "person");
  const head = holding("div", "who", element("h3", `User ${user}`));
  if (mean !== null) head.append(element("span", `mean rating ${fixed(mean)}`, "soft"));
  const own = element("div");
  if (profile.length) own.append(element("p", "Often writes about", "soft small"), tiles(profile, context.shared, context.entries));
  const list = holding("ol", "items", ...recommendations.map((item) => recommendation(item, entry, context)));
  node.append(head, own, recommendations.length ? list : element("p", "Nothing is left to recommend."));
  return node;
};
