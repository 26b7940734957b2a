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
    const quotes = element("dd"), forms = formsOf(keyword.word, keyword.lemma);
    const sides = [[keyword.user_quote, "this user, about another item"], [keyword.item_quote, "another user, about this item"]];
    for (const [quote, source] of sides) if (quote) quotes.append(quoted(quote, source, 0, forms(quote)));
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

const itemHead = ({ item, title, predicted }, mean, both) => {
  const name = holding("div", "", element("h4", title || item));
  if (title) name.append(element("span", item, "soft small"));
  if (both) name.append(element("span", "recommended to both", "badge"));
  const head = holding("div", "item-head", name);
  if (predicted !== null) head.append(prediction(predicted, mean));
  return head;
};

const reasonsOf = ({ evidence, words, reviews, profile }, shared, entries) => {
  const reasons = [];
  const add = (heading, drawn) => reasons.push(holding("div", "", label(heading), drawn));
  if (evidence.length) reasons.push(evidenceColumns(evidence));
  if (words.length) add("Words that moved it", wordEffects(words, entries));
  if (reviews.length) add("Its most useful reviews, by the model's weights", usefulReviews(reviews));
  if (profile.length) add("Reviews of this item write about", chips(profile, shared, entries));
  return reasons;
};

const sourceOf = (review, own) => {
  const rating = review.rating === null ? "" : ` · ${rated(review.rating)}`;
  return `${own ? `this user, about ${review.title || review.item}` : `user ${review.user}, about this item`}${rating}`;
};

// `brief`: beside another user there is room for shared words only, the rest is folded unless there are none.
const recommendation = (item, entry, { entries, sharedItems, brief }) => {
  const { keywords, profile, evidence, sentence, written, neighbours, parts } = item, both = sharedItems.has(item.item);
  const node = holding("li", both ? "both" : "", itemHead(item, entry.mean_rating, both));
  if (sentence) node.append(element("p", sentence, "sentence"));
  if (written) node.append(quoted([{ text: written }], "written by the model"));
  if (neighbours) node.append(neighbourhood(neighbours));
  const shared = new Set(keywords.map((keyword) => keyword.lemma)), reasons = reasonsOf(item, shared, entries);
  if (parts.length) {
    node.append(partsOf(item, element, (review, own) => quoted(review.quote, sourceOf(review, own))));
    const more = keywords.length ? [label("In the reviews of this user and of this item"), sharedWords(keywords, entries)] : [];
    more.push(...reasons);
    if (more.length) node.append(holding("details", "", element("summary", "Shared words, past reviews and words that moved it"), ...more));
    return node;
  }
  if (keywords.length) {
    node.append(label("In the reviews of this user and of this item"));
    node.append(brief ? chips(keywords, shared, entries) : sharedWords(keywords, entries));
  } else if (profile.length) {
    const instead = evidence.length ? " What follows is what moved the prediction." : "";
    node.append(element("p", `No word stands in both profiles.${instead}`, "none"));
  }
  if (brief && reasons.length) {
    const folded = holding("details", "", element("summary", "Reasons in full"), ...reasons);
    folded.open = !keywords.length;
    node.append(folded);
  } else {
    node.append(...reasons);
  }
  if (node.childElementCount === 1) node.append(element("p", "The model gives no reason.", "none"));
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
