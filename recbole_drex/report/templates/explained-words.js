// Words of profiles as buttons, and the reviews behind a word.
const SIDES = { praised: "▲", criticised: "▼" };

const sideSign = (side) => {
  const sign = element("span", SIDES[side], side);
  sign.ariaHidden = "true";
  return [sign, element("span", `${side}: `, "unseen")];
};

const ratingFacts = ({ reviews, mean_rating: mean }) => (
  [reviews ? counted(reviews, "review") : "", mean === null ? "" : rated(mean)].filter(Boolean).join(" · "));

// A word that opens its reviews. `entries` are the users on the page.
const wordButton = ({ word, lemma, side }, entries, shared = false, ...more) => {
  const button = element("button", undefined, shared ? "word shared" : "word");
  button.type = "button";
  button.ariaHasPopup = "dialog";
  button.dataset.lemma = lemma;
  if (side in SIDES) button.append(...sideSign(side));
  button.append(element("span", word, "written"), ...more);
  if (shared) button.append(element("span", ", shared", "unseen"));
  button.addEventListener("click", () => showWord(word, lemma, entries));
  return button;
};

// The full profile of a user, or only the words of an item's profile.
const tiles = (profile, shared, entries) => {
  const list = element("ul", undefined, "tiles"), scale = largest(profile.map((keyword) => keyword.score));
  for (const keyword of profile) {
    const more = [element("span", fixed(keyword.score), "score"), element("span", ratingFacts(keyword), "facts")];
    more.push(amount(keyword.score, scale));
    list.append(holding("li", "", wordButton(keyword, entries, shared.has(keyword.lemma), ...more)));
  }
  return list;
};
const chips = (keywords, shared, entries) => (
  holding("ul", "chips", ...keywords.map((keyword) => (
    holding("li", "", wordButton(keyword, entries, shared.has(keyword.lemma)))))));

// Finds the forms of a lemma in a quote: the word or the lemma itself, else the words that share its longest prefix, with
// at least three letters and all but the last three letters of the lemma. Both words of a phrase count.
const formsOf = (word, lemma) => {
  const wanted = new Set(`${word} ${lemma}`.toLowerCase().split(" "));
  return (quote) => {
    const marked = quote.filter((piece) => piece.marked).map((piece) => piece.text.toLowerCase());
    const begins = (text, stem) => text.startsWith(stem) && text.length <= stem.length + 4;
    const wordForms = new Set(marked.filter((text) => wanted.has(text)));
    for (const part of lemma.toLowerCase().split(" ")) {
      if (wordForms.has(part)) continue;
      for (let kept = part.length; !wordForms.size && kept >= Math.max(3, part.length - 3); kept -= 1) {
        for (const text of marked) if (begins(text, part.slice(0, kept))) wordForms.add(text);
      }
    }
    return (text) => wordForms.has(text.toLowerCase());
  };
};

// Reviews of the users and of their recommended items that mention a word; reviews quoted in a profile come first.
const groupsOf = (word, lemma, entries) => {
  const groups = [], wordForms = formsOf(word, lemma);
  const gather = (heading, profile, evidence, named) => {
    const keyword = profile.find((one) => one.lemma === lemma);
    const mentions = ({ quote }) => quote && quote.some((piece) => piece.marked && wordForms(quote)(piece.text));
    const reviews = [...(keyword?.quotes ?? []), ...evidence.map((one) => one.review).filter(mentions)];
    const distinct = new Map();
    for (const review of reviews) {
      const pair = `${review.user}\n${review.item}`;
      if (!distinct.has(pair)) distinct.set(pair, review);
    }
    if (keyword || distinct.size) groups.push({ heading, keyword, reviews: [...distinct.values()], named });
  };
  const items = new Map();
  for (const { user, profile, recommendations } of entries) {
    const evidence = recommendations.flatMap((item) => item.evidence).filter((one) => one.side === "user");
    gather(`By user ${user}`, profile, evidence, (review) => review.title || review.item);
    for (const item of recommendations) {
      const known = items.get(item.item) ?? { ...item, evidence: [] };
      known.evidence.push(...item.evidence.filter((one) => one.side === "item"));
      items.set(item.item, known);
    }
  }
  for (const { item, title, profile, evidence } of items.values()) {
    gather(`About ${title || item}`, profile, evidence, (review) => `user ${review.user}`);
  }
  return groups;
};

const wordGroup = ({ heading, keyword, reviews, named }, wordForms) => {
  const group = holding("section", "", element("h4", heading));
  if (keyword) {
    const facts = element("p", undefined, "soft small");
    if (keyword.side in SIDES) facts.append(...sideSign(keyword.side).slice(0, 1), ` ${keyword.side} · `);
    facts.append([`score ${fixed(keyword.score)}`, ratingFacts(keyword)].filter(Boolean).join(" · "));
    group.append(facts);
  }
  for (const review of reviews) {
    const source = [named(review), review.rating === null ? "" : rated(review.rating)].filter(Boolean).join(" · ");
    // Shaded by attention, since the effect of a word differs between items.
    group.append(quoted(review.quote, source, 0, review.quote ? wordForms(review.quote) : undefined));
  }
  return group;
};

// The dialog is created for the first selected word; a page without explanations needs none.
const makeDialog = () => {
  const heading = element("h3"), close = element("button", "Close"), body = element("div");
  heading.id = "explained-word-heading";
  body.id = "explained-word-reviews";
  Object.assign(close, { type: "button", id: "explained-word-close" });
  Object.assign(body, { tabIndex: 0, role: "region" });
  body.setAttribute("aria-labelledby", heading.id);
  const dialog = holding("dialog", "reviews", holding("div", "dialog-head", heading, close), body);
  dialog.id = "explained-word";
  dialog.setAttribute("aria-labelledby", heading.id);
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  document.body.append(dialog);
  return dialog;
};
const showWord = (word, lemma, entries) => {
  const groups = groupsOf(word, lemma, entries), wordForms = formsOf(word, lemma);
  const dialog = document.getElementById("explained-word") ?? makeDialog(), [head, body] = dialog.children;
  head.firstChild.textContent = word;
  body.replaceChildren(...groups.map((group) => wordGroup(group, wordForms)));
  if (!groups.some((group) => group.reviews.length)) {
    body.append(element("p", "No review with this word is quoted on this page."));
  }
  dialog.showModal();
  body.scrollTop = 0;
};
