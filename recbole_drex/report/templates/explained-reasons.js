// A recommendation with its explanation, and a user with profile and recommendations.
const label = (text) => element("h5", text);

// The rating, and its difference to the user's mean.
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
    const quotes = element("dd"), wordForms = formsOf(keyword.word, keyword.lemma);
    const sides = [[keyword.user_quote, "this user, about another item"], [keyword.item_quote, "another user, about this item"]];
    for (const [quote, source] of sides) if (quote) quotes.append(quoted(quote, source, 0, wordForms(quote)));
    list.append(holding("div", "", term, quotes));
  }
  return list;
};

const SHOWN = 3; // past reviews of either side that are not folded

const pastReviews = (heading, evidence, named, reviewScale, wordScale) => {
  const entry = ({ review, delta }) => {
    const rating = review.rating === null ? "" : ` · ${rated(review.rating)}`;
    return holding("li", "", effect(delta, reviewScale), quoted(review.quote, named(review) + rating, wordScale));
  };
  return holding("div", "", label(heading), ...firstOf(SHOWN, evidence.map(entry), element("ol", undefined, "past"), "review"));
};

const evidenceColumns = (evidence) => {
  const reviewScale = largest(evidence.map((one) => one.delta));
  const wordScale = largest(deltasOf(evidence.map((one) => one.review.quote)));
  const sides = [
    ["user", "Own reviews that affect this prediction", (review) => review.title || review.item],
    ["item", "Reviews of this item by others", (review) => `user ${review.user}`],
  ];
  const columns = element("div", undefined, "sides");
  for (const [side, heading, named] of sides) {
    const ofSide = evidence.filter((one) => one.side === side);
    if (ofSide.length) columns.append(pastReviews(heading, ofSide, named, reviewScale, wordScale));
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

// `brief`: next to another user, only shared words are shown; the rest is folded unless there are no shared words.
// `folded`: everything except the sentence is folded.
const recommendation = (item, entry, { entries, sharedItems, brief, folded }) => {
  const { keywords, profile, evidence, sentence, written, neighbours, parts } = item, both = sharedItems.has(item.item);
  const node = holding("li", both ? "both" : "", itemHead(item, entry.mean_rating, both));
  node.dataset.item = item.item;
  if (sentence) node.append(element("p", sentence, "sentence"));
  if (written) node.append(quoted([{ text: written }], "written by the model"));
  if (neighbours) node.append(neighbourhood(neighbours));
  const shared = new Set(keywords.map((keyword) => keyword.lemma)), reasons = reasonsOf(item, shared, entries);
  const words = keywords.length ? [label("In the reviews of this user and of this item")] : [];
  if (keywords.length) words.push(brief ? chips(keywords, shared, entries) : sharedWords(keywords, entries));
  const folding = (name, open, nodes) => {
    const details = holding("details", "", element("summary", name), ...nodes);
    details.open = open;
    return nodes.length ? [details] : [];
  };
  let drawn;
  if (parts.length) {
    const name = brief ? "Reasons in full" : "Shared words, past reviews and words that moved it";
    drawn = [partsOf(item), ...folding(name, false, [...words, ...reasons])];
  } else {
    if (!keywords.length && profile.length) words.push(element("p", "The two profiles share no word.", "none"));
    drawn = [...words, ...(brief ? folding("Reasons in full", !keywords.length, reasons) : reasons)];
  }
  node.append(...(folded ? folding("Reasons in full", false, drawn) : drawn));
  if (node.childElementCount === 1 && !folded) node.append(element("p", "The model gives no explanation.", "none"));
  return node;
};

const WORDS = 8; // words of a profile that are not folded

const profileOf = ({ profile }, { shared, entries }) => {
  if (!profile.length) return element("div");
  const [first, ...rest] = firstOf(WORDS, [...tiles(profile, shared, entries).children], element("ul", undefined, "tiles"), "word");
  return holding("div", "", element("p", "Characteristic words", "soft small"), first, ...rest);
};

const recommendationsOf = (entry, context) => {
  const { recommendations } = entry;
  if (!recommendations.length) return element("p", "There are no items left to recommend.");
  return holding("ol", "items", ...recommendations.map((item) => recommendation(item, entry, context)));
};

const person = (entry, context) => {
  const head = holding("div", "who", element("h3", `User ${entry.user}`));
  if (entry.mean_rating !== null) head.append(element("span", `mean rating ${fixed(entry.mean_rating)}`, "soft"));
  return holding("section", "person", head, profileOf(entry, context), recommendationsOf(entry, context));
};
